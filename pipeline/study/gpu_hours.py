"""What trials have cost so far, from their rows."""

import time
from collections.abc import Collection, Sequence

from pipeline.plan.sweep import Sweep
from pipeline.shared.states import Phase
from pipeline.study.trial_rows import TrialRow


def _ended_hours(sweep: Sweep, rows: Sequence[TrialRow]) -> float:
    """Return the GPU hours of ended jobs of these trials (on the CPU: hours times processes)."""
    return sum(row.seconds for row in rows) * sweep.job.gpus / 3600


def hours_so_far(sweep: Sweep, rows: Sequence[TrialRow], without: Collection[int] = ()) -> float:
    """Return the GPU hours of all jobs of these trials, including those that run now anywhere.

    Args:
        without: ids of trials whose running job the caller counts itself.
    """
    spent = [row.seconds if row.trial_id in without else job_seconds(row) for row in rows]
    return sum(spent) * sweep.job.gpus / 3600


def job_seconds(row: TrialRow) -> float:
    """Return how long jobs of this trial have run, in seconds over all attempts."""
    begun = row.facts.get("attempt_started")
    if row.phase != Phase.RUNNING or not isinstance(begun, int | float):
        return row.seconds
    now = row.read_at or time.time()  # by the clock that the start was written by
    return row.seconds + max(0.0, now - begun)


def epoch_hours(sweep: Sweep, rows: Sequence[TrialRow]) -> tuple[float | None, bool]:
    """Return the GPU hours of an epoch, and whether they were measured in this sweep.

    Without a measured epoch the file's `job.epoch_minutes` is used; None where it has none.
    """
    run = [r for r in rows if r.epoch > 0 and r.seconds > 0 and r.variant not in sweep.makers]
    if run:
        return _ended_hours(sweep, run) / sum(r.epoch for r in run), True
    minutes = sweep.job.epoch_minutes
    return (minutes * sweep.job.gpus / 60 if minutes is not None else None), False
