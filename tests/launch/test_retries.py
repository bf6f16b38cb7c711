"""Which failed jobs are started again: by cause, so often in a row as brings no new epoch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.job.exit_cause import Outcome
from pipeline.launch.retries import RetryPolicy
from pipeline.plan.sweep_types import CAUSES, RETRIED
from pipeline.shared.rundir import RunDir

BOUNDS = {"lost_worker": 2, "port": 1, "stall": 0}


@pytest.fixture
def attempt(tmp_path: Path) -> Any:
    """What of an attempt the policy looks at: its name, epochs, lease and run directory."""
    lease = SimpleNamespace(attempt=1)
    rundir = RunDir(tmp_path)
    return SimpleNamespace(name="v/0", history=[], ending=None, lease=lease, rundir=rundir)


def failed(cause: str) -> Outcome:
    return Outcome(state="FAIL", cause=cause, reason="")


def starts(retries: RetryPolicy, attempt: Any, cause: str, epochs: list[int]) -> int:
    """Let each start bring so many epochs and end with `cause`; return how many there were."""
    for count, new in enumerate(epochs, 1):
        retries.started(attempt)
        attempt.history += [object()] * new
        if not retries.allowed(attempt, failed(cause)):
            return count
        retries.next_start(attempt)
    return len(epochs)


@pytest.mark.parametrize(
    ("cause", "epochs", "expected"),
    [
        ("lost_worker", [0] * 9, 3),
        ("port", [0] * 9, 2),
        ("stall", [0] * 9, 1),
        ("lost_worker", [0, 0, 1, 0, 0, 0, 0], 5),
        ("lost_worker", [1] * 9, 9),
    ],
)
def test_the_bound_counts_starts_in_a_row_without_a_new_epoch(
    attempt, cause: str, epochs: list[int], expected: int
) -> None:
    assert starts(RetryPolicy(BOUNDS), attempt, cause, epochs) == expected


@pytest.mark.parametrize("cause", sorted(set(CAUSES) - set(RETRIED)))
def test_what_another_start_cannot_fix_is_not_started_again(attempt, cause: str) -> None:
    assert starts(RetryPolicy(BOUNDS), attempt, cause, [0] * 3) == 1


def test_each_start_has_its_own_number_also_after_a_launcher_that_died(attempt) -> None:
    retries = RetryPolicy(BOUNDS)
    attempt.lease.attempt = 4
    assert retries.started(attempt) == 4
    assert retries.next_start(attempt) == 5 == retries.started(attempt)


def test_a_rule_that_ended_the_trial_is_not_overruled_by_a_lost_worker(attempt) -> None:
    attempt.ending = object()
    assert starts(RetryPolicy(BOUNDS), attempt, "lost_worker", [0] * 3) == 1
