"""What the rules say after an epoch, as one plain record."""

import dataclasses
import enum
from typing import Any


class VerdictKind(enum.StrEnum):
    """What to do after an epoch."""

    GO = "go"  # as expected, or nothing to check
    WATCH = "watch"  # go on, and say so
    PRUNE = "prune"  # stop: a gate, a wrong start or a non-finite metric
    STOP = "stop"  # stop: patience ran out, the run has converged
    PAUSE = "pause"  # stop for now, in a search: others are to be heard first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One verdict with all that a reader needs to agree or to object.

    Args:
        rule: which rule spoke, such as "epoch 1 floor"; None when none had anything to say.
        threshold: what the value was compared with, a fraction.
        reading: the value held against the threshold, where it is not `top1` itself: rules that
            look back hold the best epoch since against it.
        std_error: standard error of `top1` for the number of validation clips, if known.
        next: the variant that the ladder starts next, filled in by the caller who knows it.
        state: Optuna's name of the state that a stop leads to, None while the trial goes on.
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
    state: str | None = None
    cause: str | None = None

    @property
    def stops(self) -> bool:
        """Whether the trial's job is to be stopped, for good or for now."""
        return self.state is not None or self.kind is VerdictKind.PAUSE

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


def percent(value: float, digits: int = 2) -> str:
    """Return a fraction as people read it: 0.8832 -> "88.32 %"."""
    return f"{100 * value:.{digits}f} %"


def shown_reading(top1: float, error: float | None) -> str:
    """Return a reading with its standard error in points: "88.32 % ± 0.25"."""
    spread = "(standard error unknown)" if error is None else f"± {100 * error:.2f}"
    return f"{percent(top1)} {spread}"
