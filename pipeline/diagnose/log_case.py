"""What the rules get: one run's curve, its metric and branches, what else is known of it."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from pipeline.diagnose.curve import Curve, Point, in_line
from pipeline.diagnose.series import (
    Series,
    branch_metrics,
    choose_metric,
    falls,
    series,
    top1_metrics,
)
from pipeline.errors import InputError
from pipeline.plan.verdict import percent

SEVERITIES = ("error", "warning", "note")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing a rule found.

    Args:
        severity: "error": the run is useless as it is; "warning": it probably cost
            accuracy or hours; "note": good to know.
        epoch: where it appears; None if it concerns the whole run.
        evidence: the numbers, epochs and lines it rests on.
        remedy: what to do, or what to look at next.
    """

    id: str
    severity: str
    epoch: int | None
    evidence: str
    remedy: str


def error(id: str, epoch: int | None, evidence: str, remedy: str) -> Finding:
    return Finding(id=id, severity="error", epoch=epoch, evidence=evidence, remedy=remedy)


def warning(id: str, epoch: int | None, evidence: str, remedy: str) -> Finding:
    return Finding(id=id, severity="warning", epoch=epoch, evidence=evidence, remedy=remedy)


def note(id: str, epoch: int | None, evidence: str, remedy: str) -> Finding:
    return Finding(id=id, severity="note", epoch=epoch, evidence=evidence, remedy=remedy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogCase:
    """A run as the rules see it.

    Args:
        series: the metric that is judged; None if the log has none.
        branches: the metric of each branch the log has, by branch.
        start: what the starting weights reach, a fraction, if known.
        notes: remarks about the metric: which was taken, and what of it is left out.
    """

    curve: Curve
    series: Series | None
    branches: dict[str, Series]
    start: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def rates(self) -> list[Point]:
        """The epochs whose learning rate is logged."""
        return [p for p in self.curve.points if p.lr is not None and p.epoch > 0]

    @property
    def peak(self) -> float:
        """The highest learning rate of the run; 0 if none is logged."""
        return max((p.lr_end or 0.0 for p in self.rates), default=0.0)

    @property
    def values(self) -> list[tuple[Point, float]]:
        """The trained epochs with their value; empty without a metric."""
        return self.series.finite if self.series else []

    @property
    def sound(self) -> list[tuple[Point, float]]:
        """The values before a non-finite loss or metric that the run did not recover from."""
        end = self.broken_from
        return [pair for pair in self.values if end is None or pair[0].epoch < end]

    @property
    def broken_from(self) -> int | None:
        """The epoch from which on results are invalid; None if all of them count.

        A single non-finite loss is not the end where mixed precision skips the step: later epochs
        then have finite losses, and the metric holds.
        """
        spoiled = [p for p in self.curve.points if p.nan_loss]
        lost = [p for p in self.series.points if self._is_lost(p)] if self.series else []
        first = min((p.epoch for p in (*spoiled, *lost)), default=None)
        if first is None or lost:
            return first
        last = max(p.epoch for p in spoiled)
        before = [value for point, value in self.values if point.epoch < first]
        after = [value for point, value in self.values if point.epoch > last]
        held = bool(before and after) and tail(after) >= max(before) - 0.02
        return None if held and self.losses(last + 1, self.curve.last_epoch) else first

    def _is_lost(self, point: Point) -> bool:
        assert self.series is not None
        return not math.isfinite(point.metrics[self.series.metric])

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing among the run's classes, None if their number is unknown."""
        classes = self.curve.facts.num_classes
        return 1 / classes if classes else None

    @property
    def train_top1(self) -> list[tuple[Point, float]]:
        """The training accuracy by epoch, as fractions."""
        pairs = [(p, p.train_top1) for p in self.curve.points if p.train_top1 is not None]
        percent = 2 * sum(value > 1 for _, value in pairs) > len(pairs)
        return [(p, value / 100 if percent else value) for p, value in pairs]

    @property
    def planned(self) -> int | None:
        """The number of epochs in the run's configuration."""
        return self.curve.facts.max_epochs

    def losses(self, first: int, last: int) -> list[float]:
        """Return the training losses of a range of epochs, both ends included."""
        points = self.curve.points
        return [p.loss for p in points if p.loss is not None and first <= p.epoch <= last]


def make_case(
    curve: Curve, metric: str | None = None, start: float | None = None, clips: int | None = None
) -> LogCase:
    """Prepare a curve for the rules.

    Args:
        metric: the metric to judge; left out, the log's own top-1.
        start: what the starting weights are known to reach; a validation at epoch 0 and
            then the trial's own record come first.

    Raises:
        InputError: the metric is a loss or an error; the rules take the highest value as the best.
    """
    if metric is not None and falls(metric) and metric in curve.metric_names():
        raise InputError(
            f"{metric} is better where it is lower, by its name; what is judged has to rise as "
            f"the model improves, as an accuracy does. {curve.path} has: "
            f"{', '.join(curve.metric_names()[:12])}."
        )
    name = choose_metric(curve, metric)
    facts = curve.facts
    clips = clips or facts.val_clips
    about = _about_clips(curve) if clips is None else None
    chosen = series(curve, name, clips, about) if name else None
    branches = branch_metrics(curve, name) if name else {}
    return LogCase(
        curve=curve,
        series=chosen,
        branches={
            branch: series(curve, metric, clips, about) for branch, metric in branches.items()
        },
        start=_first_known(
            _start(chosen), facts.start_top1, start if _may_be_warm(curve) else None
        ),
        notes=_notes(curve, chosen, metric),
    )


def _about_clips(curve: Curve) -> int | None:
    """Return the validation clips by iterations x batch x GPUs, at most a batch too many."""
    facts = curve.facts
    if not facts.val_iterations or not facts.val_batch:
        return None
    return facts.val_iterations * facts.val_batch * (facts.gpus or 1)


def _notes(curve: Curve, chosen: Series | None, asked: str | None) -> tuple[str, ...]:
    """Return the remarks about the metric; a log with several says which was taken."""
    if chosen is None:
        return ()
    others = [name for name in top1_metrics(curve) if name != chosen.metric]
    if asked is not None or not others or curve.format == "measurements":
        return chosen.notes
    taken = f"top-1 is {chosen.metric}; the log also has {', '.join(others[:6])} (--metric NAME)"
    return (taken, *chosen.notes)


def _first_known(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _may_be_warm(curve: Curve) -> bool:
    """Whether the run may have loaded a plan's weights: it loaded some, or has no config."""
    facts = curve.facts
    has_config = facts.base_lr is not None or facts.max_epochs is not None
    return facts.load_from is not None or not has_config


def _start(chosen: Series | None) -> float | None:
    pairs = zip(chosen.points, chosen.values, strict=True) if chosen else ()
    return next((value for point, value in pairs if point.epoch == 0 and value == value), None)


def tail(values: Sequence[float], count: int = 3) -> float:
    """Return the mean of the last few values: a single epoch varies too much."""
    return statistics.fmean(values[-count:])


def at(point: Point, value: float | None = None) -> str:
    """Return an epoch as text for evidence: "88.32 % at epoch 1 (line 812)"."""
    shown = f"{percent(value)} at " if value is not None else ""
    return f"{shown}epoch {point.epoch}{in_line(point.line)}"
