"""How far a reading on so many clips can be trusted, and what that means for a verdict."""

import dataclasses
import math

from pipeline.plan.verdict import Verdict, VerdictKind, percent


def standard_error(top1: float, clips: int | None) -> float | None:
    """Return the standard error of a proportion measured on `clips` clips."""
    if not clips or not 0 <= top1 <= 1:
        return None
    return math.sqrt(top1 * (1 - top1) / clips)


def with_error(verdict: Verdict, clips: int | None) -> Verdict:
    """Add the standard error of the reading, and say so where it makes the verdict doubtful."""
    error = standard_error(verdict.top1, clips)
    if error is None:
        return verdict
    return dataclasses.replace(
        verdict, std_error=error, reason=verdict.reason + _doubt(verdict, clips)
    )


def _doubt(verdict: Verdict, clips: int | None) -> str:
    """Say so if chance could have put the reading on the other side of the threshold."""
    if verdict.threshold is None or verdict.kind is VerdictKind.GO or verdict.epoch == 0:
        return ""  # the starting weights are read on the same clips as before
    value = verdict.top1 if verdict.reading is None else verdict.reading
    error = standard_error(value, clips) or 0.0
    off = value - verdict.threshold
    if abs(off) >= 2 * error:
        return ""
    return (
        f" (within two standard errors: {100 * off:+.2f} points, standard error "
        f"{percent(error)} of {clips} clips)"
    )
