"""Whose GPUs: a stand-in driver with four of them, locks, other users, two launches."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fake_gpus
from pipeline.errors import InputError, NotReady
from pipeline.job.gpus import choose, list_gpus
from pipeline.job.slots import Slot, gpu_slots
from pipeline.launch import slot_pool
from pipeline.launch.reporters import LineReporter, Reporter
from pipeline.launch.slot_pool import SlotPool, find_slots
from pipeline.shared.files import read_objects
from pipeline.shared.rundir import RunDir

BASELINE = (
    "  baseline: {set: {train_cfg.max_epochs: 2, val_evaluator.top1: [0.6, 0.7]}, "
    "patience: null}\n"
)


@pytest.fixture
def driver(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the stand-ins; processes noted in it are seen on their GPUs."""
    folder = tmp_path_factory.mktemp("driver")
    smi, _ = fake_gpus.write(folder, sys.executable)
    monkeypatch.setenv("PCAN_NVIDIA_SMI", str(smi))
    monkeypatch.setenv("PCAN_LOCKS", str(folder / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return folder


@pytest.fixture
def foreign(driver: Path):
    """A process of somebody that holds 20 GiB of GPU 1."""
    process = subprocess.Popen(["sleep", "600"])
    fake_gpus.use(driver, process.pid, ["GPU-1"], name="/opt/train", mib=20480)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("wanted", "visible", "chosen"),
    [
        (None, None, [0, 1, 2, 3]),
        ("2,3", None, [2, 3]),
        (None, "3,1", [3, 1]),
        (None, "GPU-2,GPU-0", [2, 0]),
        ("1", "1,3", [1]),
    ],
)
def test_gpus_are_chosen_by_option_and_environment(driver, wanted, visible, chosen) -> None:
    assert [gpu.index for gpu in choose(list_gpus(), wanted, visible)] == chosen


@pytest.mark.parametrize(
    ("wanted", "visible", "error", "reported"),
    [
        ("4", None, NotReady, "this machine has: 0, 1, 2, 3"),
        ("0,0", None, InputError, "twice"),
        ("first", None, InputError, "neither a number nor"),
        ("0", "1,2", NotReady, 'CUDA_VISIBLE_DEVICES="1,2" hides'),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(driver, wanted, visible, error, reported) -> None:
    with pytest.raises(error, match=reported):
        choose(list_gpus(), wanted, visible)


def test_gpus_in_use_are_left_alone_or_refused_with_who_uses_them(
    driver: Path, foreign, plan
) -> None:
    said: list[str] = []
    slots = find_slots(plan, None, None, None, LineReporter(said.append))
    assert [slot.shown for slot in slots] == ["0,2"]
    owner = f"pid {foreign.pid} (train, {me()}, 20.0 GiB)"
    assert said == [f"GPU 1 has 20.0 of 80.0 GiB in use by {owner}; left alone."]
    with pytest.raises(NotReady, match=r"GPU 1 has 20.0 of 80.0 GiB.*--wait"):
        find_slots(plan, None, "0,1", None, LineReporter(said.append))
    with pytest.raises(NotReady, match=r"GPU 1 has 20.0 of 80.0 GiB.*--wait"):
        find_slots(plan, None, None, 2, LineReporter(said.append))
    waiting = find_slots(plan, None, None, 2, LineReporter(said.append), wait=True)
    assert [slot.shown for slot in waiting] == ["0,1", "2,3"]


def test_gpus_of_a_process_that_is_ending_are_waited_for_in_a_schedulers_job(
    driver: Path, foreign, plan
) -> None:
    def end() -> None:
        foreign.kill()
        foreign.wait()

    threading.Timer(0.5, end).start()
    slots = find_slots(plan, None, "0,1", None, Reporter(), patience_s=30.0)
    assert [slot.shown for slot in slots] == ["0,1"]


def me() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def test_a_busy_slot_is_passed_over_waited_for_and_taken_when_free(
    driver: Path, foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_pool, "POLL_S", 0.0)
    slots = gpu_slots(list_gpus(), 2, None)
    mine = SlotPool(slots, True, Reporter())
    first = mine.acquire("a/0")
    assert first is not None and first.shown == "2,3"
    assert mine.acquire("a/1") is None and "GPU 1 has 20.0 of 80.0 GiB" in mine.blocked_by
    other = SlotPool(gpu_slots(list_gpus(), 2, None), False, Reporter())
    with pytest.raises(NotReady, match=r"GPU 1 has 20.0.*GPU 2 is used by pcan trial a/0"):
        other.acquire("b/0")
    foreign.kill()
    foreign.wait()
    second = mine.acquire("a/1")
    assert second is not None and second.shown == "0,1"
    for slot in (first, second):
        mine.release(slot)


def test_what_is_left_on_the_gpus_of_an_ended_trial_is_named(
    driver: Path, foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_pool, "POLL_S", 0.0)
    monkeypatch.setattr(slot_pool, "GPU_DRAIN_S", 0.0)
    said: list[str] = []
    mine = SlotPool(
        [Slot(number=0, gpus=tuple(list_gpus()[:1]))], False, LineReporter(said.append)
    )
    slot = mine.acquire("a/0")
    fake_gpus.use(driver, foreign.pid, ["GPU-0"], name="left-over")
    mine.release(slot, "a/0")
    assert mine.draining and mine.acquire("a/1") is None
    mine.close()
    assert len(said) == 1 and f"pid {foreign.pid} (left-over" in said[0]
    assert "after a/0 ended" in said[0]


def test_a_lock_dies_with_its_holder(driver: Path) -> None:
    gpu = list_gpus()[0]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        Slot(number=0, gpus=(gpu,)).acquire("theirs/0")
        os.write(writing, b"held")
        signal.pause()
    os.read(reading, 4)
    mine = Slot(number=0, gpus=(gpu,))
    assert mine.acquire("mine/0") == f"GPU 0 is used by pcan trial theirs/0 (pid {pid})"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert mine.acquire("mine/0") is None
    mine.release()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("note", [b"[" * 4096, b"null", b"\xff", b"{}", b""], ids=range(5))
def test_what_another_user_wrote_into_a_lock_harms_nobody(driver: Path, note: bytes) -> None:
    gpu = list_gpus()[0]
    theirs, mine = Slot(number=0, gpus=(gpu,)), Slot(number=0, gpus=(gpu,))
    assert theirs.acquire("theirs/0") is None
    (driver / "locks" / f"{gpu.uuid}.lock").write_bytes(note)
    assert mine.acquire("mine/0") == "GPU 0 is used by another pcan launch"
    theirs.release()


@pytest.mark.slow
@pytest.mark.sample
def test_a_single_job_keeps_off_gpus_in_use_or_waits_for_them(
    project, driver: Path, foreign
) -> None:
    project.ranks = 1
    project.sweep(BASELINE)
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("gpus: 1,", f"gpus: 1, python: {driver}/python,"))
    words = ["train", "tiny", "--variant", "baseline", "--gpus", "1", "--wandb", "disabled"]
    refused = project.run(*words)
    assert refused.returncode == 5
    assert f"GPU 1 has 20.0 of 80.0 GiB in use by pid {foreign.pid}" in refused.stderr
    assert not (driver / "jobs").exists()
    waiting = project.start(*words, "--wait")
    line = waiting.stdout.readline()
    while "waiting" not in line:
        line = waiting.stdout.readline()
        assert line, "it ended without waiting"
    foreign.kill()
    foreign.wait()
    assert waiting.communicate(timeout=400) and waiting.returncode == 0
    assert (driver / "jobs").read_text().split() == ["baseline/train-0", "GPU-1"]
    run = RunDir(project.root / "runs" / "tiny" / "baseline" / "train-0")
    assert all(m.times["train"] > 0 and m.times["val"] > 0 for m in run.read_measurements())
    sampled = read_objects(run.gpus)[-1]["gpus"]
    assert [(gpu["index"], gpu["name"]) for gpu in sampled] == [(1, "Stand-in")]
    assert sampled[0]["celsius"] == 34 and sampled[0]["others"] == []


@pytest.mark.slow
@pytest.mark.sample
def test_two_launches_share_two_gpus_without_sharing_one(project, driver: Path) -> None:
    names = ("b", "c")
    project.ranks = 1
    project.sweep(BASELINE + "".join(f"  {name}: {{like: baseline}}\n" for name in names))
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("gpus: 1,", f"gpus: 1, python: {driver}/python,"))
    words = ["sweep", "launch", "tiny", "--gpus", "0,1", "--wandb", "disabled", "--wait"]
    words += ["--policy", "all"]
    both = [project.start(*words), project.start(*words)]
    texts = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert {trial["state"] for trial in project.status().values()} == {"COMPLETE"}
    jobs = dict(line.split() for line in (driver / "jobs").read_text().splitlines())
    assert sorted(jobs) == ["b/0", "baseline/0", "c/0"]
    assert set(jobs.values()) == {"GPU-0", "GPU-1"}
    with contextlib.closing(sqlite3.connect(project.root / "runs" / "pcan.db")) as db:
        spans = db.execute(
            "SELECT gpus, started_at, ended_at FROM pcan_trials ORDER BY gpus, started_at"
        ).fetchall()
    for (gpus, _, end), (other, start, _) in zip(spans, spans[1:], strict=False):
        assert gpus != other or start >= end
