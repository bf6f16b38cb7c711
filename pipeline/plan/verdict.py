"""What the rules say after an epoch, as one plain record, and how far the reading is certain."""

import dataclasses
import enum
import math
from typing import Any

from pipeline.shared.states import Cause, State


class VerdictKind(enum.StrEnum):
    """What to do after an epoch."""

    GO = "go"  # as expected, or nothing to check
    WATCH = "watch"  # go on, and report it
    PRUNE = "prune"  # stop: a gate, a wrong start or a non-finite metric
    STOP = "stop"  # stop: patience ran out, the run has converged
    PAUSE = "pause"  # stop for now, in a search: the other trials come first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One verdict with all that a reader needs to agree or to object.

    Args:
        rule: the rule that gave it, such as "epoch 1 floor"; None when no rule applied.
        threshold: what the value was compared with, a fraction.
        reading: the value compared with the threshold, where it is not `top1` itself: rules that
            look back compare the best epoch since.
        std_error: standard error of `top1` for the number of validation clips, if known.
        next: the variant that the ladder starts next, filled in by the caller who knows it.
        state: the state that a stop leads to, None while the trial goes on.
        cause: the outcome's cause for a stop.
    """

    epoch: int
    top1: float
    kind: VerdictKind
    reason: str
    rule: str | None = None
    threshold: float | None = None
    reading: float | None = None
    std_error: float | None = None
    next: str | None = None
    state: State | None = None
    cause: Cause | None = None

    @property
    def stops(self) -> bool:
        """Whether the trial's job is to be stopped, for good or for now."""
        return self.state is not None or self.kind is VerdictKind.PAUSE

    @property
    def is_final(self) -> bool:
        """Whether the verdict cannot be overruled: the trial's weights are of no use."""
        return self.cause is Cause.NAN

    def record(self) -> dict[str, Any]:
        """Return the verdict as JSON shows and stores it."""
        return {
            "epoch": self.epoch,
            "top1": self.top1,
            "verdict": self.kind.value,
            "rule": self.rule,
            "threshold": self.threshold,
            "std_error": self.std_error,
            "reason": self.reason,
            "next": self.next,
        }


#: The rules whose verdict is final, as records name them.
NON_FINITE_RULES = ("non-finite metric", "non-finite loss")


def non_finite(epoch: int, top1: float, what: str, problem: str) -> Verdict:
    """Return the verdict that ends a trial at a value that is not finite.

    Args:
        what: "metric" or "loss".
        problem: what is not finite, in words.
    """
    return Verdict(
        epoch=epoch,
        top1=top1,
        kind=VerdictKind.PRUNE,
        rule=f"non-finite {what}",
        reason=f"epoch {epoch}: {problem}",
        state=State.FAIL,
        cause=Cause.NAN,
    )


def percent(value: float, digits: int = 2) -> str:
    """Return a fraction as a percentage: 0.8832 -> "88.32 %"."""
    return f"{100 * value:.{digits}f} %"


def shown_reading(top1: float, error: float | None) -> str:
    """Return a reading with its standard error in points: "88.32 % ± 0.25"."""
    spread = "(standard error unknown)" if error is None else f"± {100 * error:.2f}"
    return f"{percent(top1)} {spread}"


def standard_error(top1: float, clips: int | None) -> float | None:
    """Return the standard error of a proportion measured on `clips` clips."""
    if not clips or not 0 <= top1 <= 1:
        return None
    return math.sqrt(top1 * (1 - top1) / clips)


def with_error(verdict: Verdict, clips: int | None) -> Verdict:
    """Return the verdict with the standard error, and a remark where chance could have made it."""
    error = standard_error(verdict.top1, clips)
    if error is None:
        return verdict
    return dataclasses.replace(
        verdict, std_error=error, reason=verdict.reason + _doubt(verdict, clips)
    )


def _doubt(verdict: Verdict, clips: int | None) -> str:
    """Return a remark if chance could have put the reading on the threshold's other side."""
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
