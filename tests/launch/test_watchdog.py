"""The watchdog learns the pace of a job, and names the rank of a stalled one that stands."""

import pytest

from pipeline.launch.watchdog import Watchdog, log_sizes, standing_ranks
from pipeline.shared.rundir import RunDir

HEAD = 'Thread 0x01 (most recent call first):\n  File "/x/threading.py", line 1 in wait\n\n'
WAITING = '  File "/s/torch/autograd/graph.py", line 825 in _engine_run_backward\n'
AWAY = '  File "/my/code/data.py", line 7 in fetch\n  File "/s/torch/utils/x.py", line 1 in y\n'


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def watch(dog: Watchdog, clock: Clock, seconds: float, progress: dict) -> str | None:
    """Look once a second, as a launcher that is awake does."""
    reported = None
    for _ in range(int(seconds)):
        clock.now += 1
        reported = dog.check(progress) or reported
    return reported


def at(step: int, phase: str = "train", epoch: int = 1, steps: int = 100) -> dict:
    return {"epoch": epoch, "phase": phase, "iter": step, "iters": steps}


def trained(steps: int, pace: int) -> tuple[Watchdog, Clock]:
    clock = Clock()
    dog = Watchdog(floor_s=10, clock=clock)
    for step in range(steps):
        assert watch(dog, clock, pace, at(step)) is None
    return dog, clock


def test_a_step_that_takes_far_longer_than_usual_is_a_stall() -> None:
    dog, clock = trained(steps=20, pace=4)
    assert watch(dog, clock, 100, at(20)) is None
    reported = watch(dog, clock, 40, at(20))
    assert reported is not None
    assert "(usual: 4.0 s), in epoch 1, train 20/100; the stacks of all ranks" in reported


def test_a_fast_job_still_gets_the_floor() -> None:
    clock = Clock()
    dog = Watchdog(floor_s=60, clock=clock)
    for step in range(20):
        watch(dog, clock, 1, at(step))
    assert watch(dog, clock, 59, at(19)) is None
    assert watch(dog, clock, 5, at(19)) is not None


def test_a_phase_that_was_never_seen_gets_more_time() -> None:
    dog, clock = trained(steps=20, pace=1)
    assert watch(dog, clock, 19, at(0, "val")) is None
    assert watch(dog, clock, 10, at(0, "val")) is not None


def test_a_job_that_never_gives_a_sign_of_life_is_stuck_at_its_start() -> None:
    clock = Clock()
    dog = Watchdog(floor_s=10, clock=clock)
    assert watch(dog, clock, 119, {}) is None
    reported = watch(dog, clock, 5, {})
    assert reported is not None and "before its first sign of life" in reported


def test_time_in_which_this_launcher_slept_does_not_count() -> None:
    dog, clock = trained(steps=20, pace=1)
    clock.now += 8 * 3600  # the machine was suspended, or we were stopped
    assert dog.check(at(19)) is None
    assert watch(dog, clock, 5, at(19)) is None
    assert watch(dog, clock, 60, at(19)) is not None


def test_reading_the_data_at_the_start_may_take_long() -> None:
    clock = Clock()
    dog = Watchdog(floor_s=10, clock=clock)
    assert watch(dog, clock, 100, at(0, "starting", 0, steps=0)) is None
    assert watch(dog, clock, 30, at(0, "starting", 0, steps=0)) is not None


def dump(frames: str) -> str:
    return f"{HEAD}Current thread 0x02 [python] (most recent call first):\n{frames}"


@pytest.mark.parametrize(
    ("logs", "reported"),
    [
        ([dump(WAITING), dump(AWAY)], ": rank 1 stands in fetch, data.py:7 (rank1.log); the"),
        ([dump(AWAY), dump(WAITING), dump(WAITING)], ": rank 0 stands in fetch"),
        ([dump(WAITING), ""], ": rank 1 does not answer (rank1.log); the others wait for it"),
        ([dump(AWAY)], ": rank 0 stands in fetch, data.py:7 (rank0.log)"),
        ([dump(WAITING), dump(WAITING)], ""),
        ([dump(AWAY), dump(AWAY)], ""),
    ],
)
def test_the_rank_that_stands_is_named(tmp_path, logs, reported) -> None:
    rundir = RunDir(tmp_path)
    for rank in range(len(logs)):
        rundir.rank_log(rank).write_text("earlier\n" + dump(AWAY))
    before = log_sizes(rundir, len(logs))
    for rank, text in enumerate(logs):
        with open(rundir.rank_log(rank), "a") as stream:
            stream.write(text)
    found = standing_ranks(rundir, before)
    assert found.startswith(reported) and (reported or not found)
