"""Stopping rules of a search: halving and the ladder. Pure, without state.

Both check a trial at a few epochs and let the better half of all that ever got there go on.
Halving decides at once, against those that got there before. The ladder pauses a trial until all
others have arrived or ended.

Trials are ranked by the greater of two values. The best value so far ranks them by their lr, the
lowest first, while a cosine schedule still has a high lr: the noise that such a rate puts on the
weights hides what they have learned. The mean of the weights over the later half of the epochs has
that noise taken out, which is what the schedule does later. Where it was not read, the best so far
stands alone.

One class serves the launcher and the simulator: all that it knows of the other trials is a `Rung`,
which the caller gathers.
"""

import dataclasses
import enum
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.plan.sweep import Search
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.counted import counted
from pipeline.shared.states import Cause

#: One or two epochs are too few for a mean: no check before this epoch reads averaged weights.
FEWEST_EPOCHS = 3
#: What one reading costs, in epochs: batch statistics measured again, and one more validation.
EPOCHS_PER_READING = 0.2
#: Where the checks lie, as shares of all epochs, and which share of the trials goes on.
CHECKS_AT = (1 / 8, 1 / 4, 1 / 2)
KEEP = 0.5


@dataclasses.dataclass(frozen=True)
class RungReading:
    """One trial's values at a check, as fractions.

    Args:
        best: the best value so far.
        averaged: the value of the averaged weights; None where it was not read, or is not finite.
    """

    best: float
    averaged: float | None = None

    @classmethod
    def of(cls, best: float, averaged: float | None) -> "RungReading":
        """Return the reading; an averaged value that is not finite does not count."""
        counts = averaged is not None and math.isfinite(averaged)
        return cls(best, averaged if counts else None)

    @property
    def value(self) -> float:
        """What trials are ranked by."""
        return self.best if self.averaged is None else max(self.best, self.averaged)

    def words(self, digits: int) -> str:
        """Return both values in points, as a verdict's sentence has them."""
        best = f"best so far {100 * self.best:.{digits}f}"
        if self.averaged is None:
            return best
        return f"averaged {100 * self.averaged:.{digits}f}, {best}"


def digits_for(values: Sequence[float]) -> int:
    """Return with how many digits values in points differ, four at most."""
    for digits in (1, 2):
        if len({f"{100 * value:.{digits}f}" for value in values}) == len(set(values)):
            return digits
    return 4


class Reachability(enum.Enum):
    """Whether a trial that is not at a check may still come there."""

    OPEN = "open"  # runs, waits or is paused
    ENDED = "ended"  # failed or converged on its way
    OUT = "out"  # was stopped by the rule, or never was part of the search


@dataclasses.dataclass(frozen=True)
class TrialProgress:
    """How far one trial has got.

    Args:
        number: breaks ties, the lower first.
        epoch: the latest measured.
        readings: by check, what was read there; only checks that it has reached.
    """

    number: int
    epoch: int
    readings: Mapping[int, float]
    reachability: Reachability


@dataclasses.dataclass(frozen=True)
class Rung:
    """The trials that a check compares.

    Args:
        readings: by number, what was read of each that got there, the judged one too.
        to_come: trials that may still get there.
        lost: trials that set out for this check and ended before it.
    """

    readings: Mapping[int, float]
    to_come: int = 0
    lost: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What a rule decides at a check, with the figures behind it.

    Args:
        rank: 1 is the best.
        reached: how many got there.
        go_on: how many of them may go on.
        cut: the reading of the last that may.
    """

    kind: VerdictKind
    check: int
    reading: RungReading
    rank: int
    reached: int
    go_on: int
    cut: float
    reason: str


@dataclasses.dataclass(frozen=True)
class AsyncHalving:
    """At each check, go on only in the better half of all that ever got there.

    Args:
        epochs: how many a full trial has.
        at: the checks, as shares of `epochs`.
        keep: the share that goes on, rounded up.
        least: how many go on at least.
        averaged: averaged weights are read, at checks from the third epoch on.
    """

    epochs: int
    at: Sequence[float] = CHECKS_AT
    keep: float = KEEP
    least: int = 1
    averaged: bool = False

    name = Cause.HALVING.value

    @property
    def checks(self) -> tuple[int, ...]:
        """The epochs that are checked, ascending; never the last, which ends the trial anyway."""
        # A share such as 1/3 of 30 must not become 11 by a rounding error.
        first = FEWEST_EPOCHS if self.averaged else 1
        found = {max(first, math.ceil(share * self.epochs - 1e-9)) for share in self.at}
        return tuple(sorted(epoch for epoch in found if epoch < self.epochs))

    def due(self, epoch: int, passed: Collection[int] = ()) -> int | None:
        """Return the check to be decided after `epoch`, None if there is none.

        A check that could not be decided in its time is decided later, by what was measured then.

        Args:
            passed: checks that the trial has been let through.
        """
        open_checks = [c for c in self.checks if c <= epoch and c not in passed]
        return open_checks[-1] if open_checks and epoch < self.epochs else None

    def previous(self, check: int) -> int:
        """Return the check before this one, 0 for the first."""
        return max((c for c in self.checks if c < check), default=0)

    def field(self, standings: Iterable[TrialProgress], check: int, undrawn: int = 0) -> Rung:
        """Return the trials to be compared at a check.

        Args:
            undrawn: trials that the search will still begin.
        """
        before = self.previous(check)
        readings: dict[int, float] = {}
        to_come, lost = undrawn, 0
        for one in standings:
            if check in one.readings:
                readings[one.number] = one.readings[check]
            elif one.reachability is Reachability.OPEN:
                to_come += 1
            elif one.reachability is Reachability.ENDED and (one.epoch > before or not before):
                lost += 1
        return Rung(readings, to_come, lost)

    def reads(self, check: int) -> bool:
        """Whether averaged weights are read at this epoch."""
        return self.averaged and check in self.checks

    def may_stop(self, trials: int) -> bool:
        """Whether the rule can stop any of that many trials."""
        return bool(self.checks) and self._allowed(trials) < trials

    def decide(
        self, check: int, number: int, field: Rung, reading: RungReading | None = None
    ) -> Decision:
        """Decide about one trial that got to a check.

        Args:
            number: the trial's, a key of `field.readings`.
            reading: the trial's own, with both its values for the sentence; None: one value.
        """
        own, values = field.readings[number], sorted(field.readings.values(), reverse=True)
        allowed = self._allowed(len(values))
        cut = values[allowed - 1]
        return _decision(
            VerdictKind.GO if own >= cut else VerdictKind.PRUNE,
            check,
            reading or RungReading(own),
            rank=1 + sum(value > own for value in values),
            reached=len(values),
            go_on=allowed,
            cut=cut,
        )

    def _allowed(self, entered: int) -> int:
        return min(max(self.least, math.ceil(self.keep * entered - 1e-9)), entered)


@dataclasses.dataclass(frozen=True)
class SyncHalving(AsyncHalving):
    """The same halvings with a barrier: a trial is paused at a check until all are there.

    Trials that ended on their way there count as having set out, so a run of bad luck does not
    tighten the cut. Of equal trials the lower number goes first: exactly the allowed number goes
    on, however coarse the metric is.
    """

    least: int = 3

    name = Cause.LADDER.value

    def most_epochs(self, trials: int) -> int:
        """Return the epochs that a number of trials costs if none ends on its way."""
        going, before, epochs = trials, 0, 0
        for check in (*self.checks, self.epochs):
            epochs += going * (check - before)
            going, before = self._allowed(going), check
        return epochs

    def decide(
        self, check: int, number: int, field: Rung, reading: RungReading | None = None
    ) -> Decision:
        values, reached = field.readings, len(field.readings)
        order = sorted(values, key=lambda n: (-values[n], n))
        allowed = min(self._allowed(reached + field.lost), reached)
        rank, cut = 1 + order.index(number), values[order[allowed - 1]]
        kind = VerdictKind.GO if rank <= allowed else VerdictKind.PRUNE
        return _decision(
            VerdictKind.PAUSE if field.to_come else kind,
            check,
            reading or RungReading(values[number]),
            rank=rank,
            reached=reached,
            go_on=allowed,
            cut=cut,
            lost=field.lost,
            to_come=field.to_come,
        )


@dataclasses.dataclass(frozen=True)
class NoRule(AsyncHalving):
    """Every trial runs to its end."""

    name = "none"

    @property
    def checks(self) -> tuple[int, ...]:
        return ()


def _decision(
    kind: VerdictKind,
    check: int,
    reading: RungReading,
    *,
    rank: int,
    reached: int,
    go_on: int,
    cut: float,
    lost: int = 0,
    to_come: int = 0,
) -> Decision:
    digits = digits_for((reading.value, cut))
    before = f" ({lost} more ended before)" if lost and not to_come else ""
    others = counted(to_come, "other")
    how = (
        f"paused until {others} got there too"
        if to_come
        else f"{go_on} go on, cut {100 * cut:.{digits}f}"
    )
    reason = (
        f"epoch {check}: {reading.words(1 if to_come else digits)}, rank {rank} of {reached} that "
        f"reached epoch {check}{before}, {how}"
    )
    return Decision(
        kind=kind,
        check=check,
        reading=reading,
        rank=rank,
        reached=reached,
        go_on=go_on,
        cut=cut,
        reason=reason,
    )


#: By the name that a sweep file gives them.
RULES: Mapping[str, type[AsyncHalving]] = {
    cls.name: cls for cls in (AsyncHalving, SyncHalving, NoRule)
}


def make_rule(search: Search, epochs: int) -> AsyncHalving:
    """Return the rule that a sweep file asks for, for trials of this length."""
    kind = RULES[search.rule]
    least = search.finish if kind is SyncHalving else 1
    averaged = search.read == "averaged"
    return kind(epochs, at=search.at, keep=search.keep, least=least, averaged=averaged)
