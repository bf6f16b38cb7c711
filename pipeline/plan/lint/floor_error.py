"""How often each floor would stop a run that ends at the goal, and the floor that seldom would.

What such a run reads at a floor's epoch follows from earlier runs: each gained some points from
that epoch to its end. Taken off the goal, these gains give the readings to expect: Student's t
about their mean (the prediction interval of a further run), never narrower than the noise of the
validation set. How well that holds: docs/honest-numbers.md.
Without earlier runs the plan's own band stands in: each accuracy in it is as likely, and the
reading is a count of clips.

The plan's gates stay as written; this only says what they do.
"""

import bisect
import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.plan.course import expected
from pipeline.plan.distributions import binomial_cdf, t_cdf
from pipeline.plan.gates import Gate
from pipeline.plan.lint.lint_finding import LintContext
from pipeline.plan.sweep import Variant
from pipeline.plan.verdict import percent, standard_error
from pipeline.shared.counted import counted

#: A floor may stop this share of the runs that end at the goal.
ALLOWED = 0.05
#: With fewer runs of a variant those of the whole sweep are taken, with fewer of them none.
ENOUGH_RUNS = 3
#: Accuracies inside a band that stand for all of it.
BAND_STEPS = 50
#: A floor is proposed in steps of this size, rounded down.
STEP = 0.001


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that went to its end, of this sweep or imported.

    Args:
        values: its top-1 by epoch, fractions, without the starting weights.
    """

    variant: str
    values: Mapping[int, float]

    @property
    def end(self) -> float:
        """The best of its values."""
        return max(self.values.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class FloorError:
    """What a floor does to a run that ends at the goal.

    Args:
        where: file:line of the gate.
        stops: the share of such runs that it stops; None where that is unknown.
        proposed: the highest floor that stops at most ALLOWED of them; None likewise.
        source: what the reading at that epoch is known from, or why it is unknown.
    """

    variant: str
    where: str
    epoch: int
    floor: float
    stops: float | None
    proposed: float | None
    source: str

    @property
    def sentence(self) -> str:
        """The error in words."""
        head = f"epoch {self.epoch} floor {percent(self.floor)}"
        if self.stops is None or self.proposed is None:
            return f"{head}: unknown, {self.source}"
        text = f"{head}: stops {_share(self.stops)} of such runs ({self.source})"
        most = f"{100 * ALLOWED:.0f} %"
        if self.proposed <= 0:
            return f"{text}; any floor stops more than {most}"
        return f"{text}; a floor up to {percent(self.proposed, 1)} stops at most {most}"

    def record(self) -> dict[str, Any]:
        """Return the error as `gates lint --json` shows it."""
        return {**dataclasses.asdict(self), "sentence": self.sentence}


def floor_errors(subject: LintContext, runs: Sequence[FinishedRun]) -> list[FloorError]:
    """Return the error of every floor of a plan, each place in the file once.

    Args:
        runs: finished runs of the sweep's metric.
    """
    return [
        _error(subject, variant, gate, subject.sweep.where(*place, i), runs)
        for variant, place in subject.own("gates")
        for i, gate in enumerate(variant.gates)
        if gate.floor is not None
    ]


def _error(
    subject: LintContext, variant: Variant, gate: Gate, where: str, runs: Sequence[FinishedRun]
) -> FloorError:
    assert gate.floor is not None
    expectation, source = _expectation(subject, variant, gate.epoch, runs)
    return FloorError(
        variant=variant.name,
        where=where,
        epoch=gate.epoch,
        floor=gate.floor,
        stops=expectation.below(gate.floor) if expectation else None,
        proposed=_highest(expectation) if expectation else None,
        source=source,
    )


def _expectation(
    subject: LintContext, variant: Variant, epoch: int, runs: Sequence[FinishedRun]
) -> tuple["AfterRuns | InsideBand | None", str]:
    """Return what a run that ends at the goal reads at an epoch, and from what that is known."""
    goal, clips = subject.sweep.objective.goal, subject.clips
    if goal is None:
        return None, "the plan has no goal"
    reaching = [run for run in runs if epoch in run.values]
    own = [run for run in reaching if run.variant == variant.name]
    used = own if len(own) >= ENOUGH_RUNS else reaching
    if len(used) >= ENOUGH_RUNS:
        whose = f"runs of {variant.name}" if used is own else "runs"
        noise = "" if clips else ", noise of the validation unknown"
        found = AfterRuns.of(goal, epoch, used, clips)
        return found, f"from {len(used)} earlier {whose}{noise}"
    band = expected(variant.bands, epoch)
    lacking = f"{len(used)} of {ENOUGH_RUNS} earlier runs have that epoch"
    if band is None:
        return None, f"{lacking} and the plan has no band there"
    if clips is None:
        return None, f"{lacking}; with --clips N the plan's band could be used"
    source = (
        f"from the plan's band {percent(band[0], 1)} to {percent(band[1], 1)}, "
        f"{counted(clips, 'clip')}"
    )
    return InsideBand(low=band[0], high=band[1], clips=clips), source


@dataclasses.dataclass(frozen=True, kw_only=True)
class AfterRuns:
    """The reading of a run that ends at the goal and gains as earlier runs did.

    Args:
        centre: the mean reading.
        spread: its standard error.
        freedom: degrees of freedom that the spread is known with.
    """

    centre: float
    spread: float
    freedom: int

    @classmethod
    def of(
        cls, goal: float, epoch: int, runs: Sequence[FinishedRun], clips: int | None
    ) -> "AfterRuns":
        """Return what these runs make one expect."""
        levels = [goal - run.end + run.values[epoch] for run in runs]
        centre = statistics.fmean(levels)
        noise = standard_error(min(1.0, max(0.0, centre)), clips) or 0.0
        seen = statistics.stdev(levels)
        spread = max(seen, noise) * math.sqrt(1 + 1 / len(levels))
        return cls(centre=centre, spread=spread, freedom=len(levels) - 1)

    def below(self, floor: float) -> float:
        """Return how often the reading is below a floor."""
        off = floor - self.centre
        return t_cdf(off / self.spread, self.freedom) if self.spread else float(off > 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InsideBand:
    """The reading of a run whose true accuracy is anywhere in a band."""

    low: float
    high: float
    clips: int

    def below(self, floor: float) -> float:
        """Return how often the reading is below a floor."""
        most = math.ceil(round(floor * self.clips, 6)) - 1  # clips right; at the floor it goes on
        return statistics.fmean(binomial_cdf(most, self.clips, share) for share in self._shares())

    def _shares(self) -> Iterator[float]:
        for i in range(BAND_STEPS):
            yield self.low + (i + 0.5) / BAND_STEPS * (self.high - self.low)


def _highest(expectation: AfterRuns | InsideBand) -> float:
    """Return the highest floor, in steps of STEP, that stops at most ALLOWED; 0 if none does."""
    steps = range(round(1 / STEP) + 1)
    above = bisect.bisect_right(steps, ALLOWED, key=lambda i: expectation.below(i * STEP))
    return max(0, above - 1) * STEP


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if value >= 0.0005 else "hardly any"
