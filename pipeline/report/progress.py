"""How far a trial is: the time it still needs, the GPU hours it has used.

`status`, `watch`, the comparison page and the launcher's terminal take both from here; a gate
says itself how far it is (`plan/gates.py`). GPU hours that a plan may cost are computed in
`plan/cost.py`, those that a budget counts over many trials in the study.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import Phase
from pipeline.study.trial_rows import TrialRow, job_seconds


def total_epochs(row: TrialRow, sweep: Sweep) -> int | None:
    """Return the number of epochs of the whole trial, None if unknown before its first start."""
    epochs = row.facts.get("epochs")
    if isinstance(epochs, int):
        return epochs
    variant = sweep.variants.get(row.variant)
    return variant.epochs if variant is not None else None


def seconds_left(
    epochs: int, history: Sequence[Measurement], now: Mapping[str, Any]
) -> float | None:
    """Return the time to the last epoch by the mean epoch so far, None before the first one.

    Args:
        now: `progress.json` of the job; the part of the running epoch that is done counts.
    """
    took = [m.seconds for m in history if m.epoch > 0 and m.seconds is not None]
    if not took:
        return None
    last = history[-1].epoch
    left = float(epochs - last)
    if now.get("phase") == "train" and now.get("iters") and now["epoch"] > last:
        left -= min(1.0, float(now.get("iter") or 0) / float(now["iters"]))
    return max(0.0, left) * sum(took) / len(took)


def row_seconds_left(row: TrialRow, sweep: Sweep) -> float | None:
    """Return the time a running trial still needs, from what the storage knows of it alone.

    None where it does not run, or nothing is known of the length of an epoch.
    """
    epochs = total_epochs(row, sweep)
    if row.phase != Phase.RUNNING or epochs is None:
        return None
    if row.epoch > 0:
        per_epoch = job_seconds(row) / row.epoch
    elif sweep.job.epoch_minutes is not None:
        per_epoch = 60 * sweep.job.epoch_minutes
    else:
        return None
    return round(max(0, epochs - row.epoch) * per_epoch, 1)


def shown_time(seconds: float) -> str:
    """Return a duration in words: "4 h 10 min", "35 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def to_gpu_hours(seconds: float, processes: int) -> float:
    """Return the GPU hours of jobs that ran for `seconds` (on the CPU: process hours)."""
    return seconds * processes / 3600


def row_gpu_hours(row: TrialRow) -> float:
    """Return the GPU hours used by a trial so far, a running job included."""
    return to_gpu_hours(job_seconds(row), int(row.facts.get("nproc") or 0))
