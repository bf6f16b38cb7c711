"""What the rules get: one run's curve, its metric and branches, what else is known of it."""

import dataclasses
import statistics
from collections.abc import Sequence

from pipeline.diagnose.curve import Curve, Point
from pipeline.diagnose.series import Series, branch_metrics, choose_metric, series
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
    """

    curve: Curve
    series: Series | None
    branches: dict[str, Series]
    start: float | None = None

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
    """
    name = choose_metric(curve, metric)
    clips = clips or curve.facts.val_clips
    chosen = series(curve, name, clips) if name else None
    branches = branch_metrics(curve, name) if name else {}
    return LogCase(
        curve=curve,
        series=chosen,
        branches={branch: series(curve, metric, clips) for branch, metric in branches.items()},
        start=_first_known(
            _start(chosen), curve.facts.start_top1, start if _may_be_warm(curve) else None
        ),
    )


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
    return f"{shown}epoch {point.epoch} (line {point.line})"
