"""How a launch is asked to stop: levels that only rise, requests that are really meant for it."""

import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.job.exit_cause import Outcome
from pipeline.launch import completion
from pipeline.launch.completion import CompletionQueue
from pipeline.launch.reporters import LineReporter, Reporter
from pipeline.launch.stop_requests import STOP_FILE, StopRequests
from pipeline.shared.files import write_json
from pipeline.shared.rundir import RunDir


@pytest.fixture
def said() -> list[str]:
    return []


def ask(folder: Path, now: bool = False, when: float | None = None) -> None:
    write_json(folder / STOP_FILE, {"time": time.time() if when is None else when, "now": now})


def poll(stops: StopRequests) -> int:
    stops._polled = 0.0
    return stops.level if stops.requested else 0


def test_a_request_from_before_the_launch_means_nothing(tmp_path: Path, said) -> None:
    ask(tmp_path)
    assert poll(StopRequests(tmp_path, 5, LineReporter(said.append))) == 0


def test_a_clock_that_was_set_back_hides_no_request(tmp_path: Path, said) -> None:
    ask(tmp_path)
    stops = StopRequests(tmp_path, 5, LineReporter(said.append))
    ask(tmp_path, when=time.time() - 3600)
    assert poll(stops) == 1 and stops.exit_code == 75


def test_now_after_a_patient_request_is_heard(tmp_path: Path, said) -> None:
    stops = StopRequests(tmp_path, 5, LineReporter(said.append))
    ask(tmp_path)
    assert poll(stops) == 1 and stops.grace_s is None
    ask(tmp_path, now=True)
    assert poll(stops) == 2 and stops.grace_s == 0.0


def test_signals_raise_the_level_and_are_reported_outside_the_handler(
    tmp_path: Path, said
) -> None:
    stops = StopRequests(tmp_path, 5, LineReporter(said.append))
    with stops.signal_handlers():
        for level in (1, 2, 3, 3):
            os.kill(os.getpid(), signal.SIGINT)
            assert stops.level == level
        assert said == []
        assert stops.requested and len(said) == 4
    assert stops.exit_code == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_term_and_hangup_ask_once_with_a_grace(tmp_path: Path, said, number) -> None:
    stops = StopRequests(tmp_path, 5, LineReporter(said.append))
    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with stops.signal_handlers():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)
    assert (stops.level, stops.grace_s, stops.exit_code) == (1, 5, 75)


class EndedTrial:
    """A trial whose end the storage does not take."""

    name = "v/0"

    def __init__(self, folder: Path) -> None:
        self.rundir = RunDir(folder)

    def report_end(self, _: Outcome) -> None:
        raise StorageError("The disk is full.")


@pytest.mark.parametrize(
    ("kept", "said"),
    [(True, "is kept in the run directory"), (False, "could not be kept either")],
)
def test_a_launch_that_is_asked_to_stop_does_not_wait_on_for_its_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, said: str
) -> None:
    ended = EndedTrial(tmp_path)
    if kept:
        ended.rundir.outcome.touch()
    stops = StopRequests(tmp_path, grace_s=1, reporter=Reporter())
    queue = CompletionQueue(None, stops, Reporter())
    queue.pending.append((ended, stops.outcome()))
    monkeypatch.setattr(completion, "RETRY_S", 0.0)
    monkeypatch.setattr(completion, "STOPPING_S", 0.0)
    queue.flush(alone=True)
    assert queue.pending  # it waits
    stops.budget_exhausted("the hours are used up")
    queue.flush(alone=False)
    with pytest.raises(StorageError, match=said):
        queue.flush(alone=True)
