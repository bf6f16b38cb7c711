"""What trials have cost so far, from the board."""

from collections.abc import Sequence

from pipeline.plan.sweep import Sweep
from pipeline.study.board import TrialRow


def gpu_hours(sweep: Sweep, rows: Sequence[TrialRow]) -> float:
    """Return what ended jobs of these trials have spent (on the CPU: hours times processes)."""
    return sum(row.seconds for row in rows) * sweep.job.gpus / 3600


def epoch_hours(sweep: Sweep, rows: Sequence[TrialRow]) -> tuple[float | None, bool]:
    """Return the GPU hours of an epoch, and whether they were measured in this sweep.

    Without a measured epoch the file's `job.epoch_minutes` has to do; None where it has none.
    """
    run = [r for r in rows if r.epoch > 0 and r.seconds > 0 and r.variant not in sweep.makers]
    if run:
        return gpu_hours(sweep, run) / sum(r.epoch for r in run), True
    minutes = sweep.job.epoch_minutes
    return (minutes * sweep.job.gpus / 60 if minutes is not None else None), False
