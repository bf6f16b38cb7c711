"""A log beside a plan: its variant, what that expects, its gates replayed on the log."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.diagnose.curve import Curve
from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.rules.conform import conformance
from pipeline.diagnose.runner import Rule
from pipeline.diagnose.series import how_to_name
from pipeline.diagnose.trial import find_trial
from pipeline.errors import InputError
from pipeline.plan.replay import Replay, replay
from pipeline.plan.sweep import Sweep, Variant

#: Returns the true lr of a variant (or of a trial's own config) and what stood in the way.
Schedule = Callable[[], tuple[Sequence[float] | None, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanContext:
    """The variant that a log is compared with; empty without a plan."""

    sweep: Sweep | None = None
    variant: Variant | None = None
    folder: Path | None = None
    schedule: Schedule | None = None

    @property
    def logs(self) -> tuple[Path, ...]:
        """The trial to read where no logs are named."""
        return () if self.folder is None else (self.folder,)

    @property
    def start(self) -> float | None:
        """What the variant's starting weights are expected to reach."""
        if self.variant is None or self.variant.warm_start is None:
            return None
        return self.variant.warm_start.expect

    def metric(self, names: Sequence[str]) -> str | None:
        """Return the plan's metric, None if the log lacks it."""
        if self.sweep is None:
            return None
        metric = self.sweep.metric_of(self.variant.name if self.variant is not None else "")
        return metric if metric in names else None

    def rules(self) -> tuple[list[Rule], tuple[str, ...]]:
        """Return the rules of conformance, and why the lr could not be checked."""
        if self.variant is None:
            return [], ()
        true_lr, problems = self.schedule() if self.schedule else (None, ())
        return conformance(self.variant, true_lr), problems


def choose_variant(sweep: Sweep, name: str | None) -> Variant:
    """Return a variant by name, the ladder's first by default.

    Raises:
        InputError: there is no such variant.
    """
    name = name or sweep.ladder.start
    if name not in sweep.variants:
        known = ", ".join(sweep.variants)
        raise InputError(f'{sweep.shown_path} has no variant "{name}"; it has: {known}.')
    return sweep.variants[name]


def of_trial(sweep: Sweep, runs: Path, trial: str) -> tuple[Variant, Path]:
    """Return the variant and the run directory of a trial named VARIANT/NUMBER."""
    folder = find_trial(runs, sweep.name, trial)
    return choose_variant(sweep, trial.rpartition("/")[0]), folder


def replay_log(
    context: PlanContext, log: Path, metric: str | None = None, clips: int | None = None
) -> tuple[Curve, Replay, tuple[str, ...]]:
    """Judge a log by the rules of a plan's variant.

    Returns:
        The log's curve, the verdicts, and notes about both.

    Raises:
        InputError: the log lacks the metric; the message lists those it has.
    """
    assert context.sweep is not None and context.variant is not None
    curve = read_log(log)
    case = make_case(curve, metric or context.metric(curve.metric_names()), clips=clips)
    if case.series is None:
        raise InputError(_lacking(curve, metric))
    result = replay(
        context.sweep,
        context.variant,
        case.series.measurements(),
        epochs_logged=curve.last_epoch,
        nan_epoch=curve.nan_loss[0] if curve.nan_loss else None,
        clips=case.series.clips,
    )
    notes = [*curve.notes, *case.notes, f"judged by {case.series.metric}"]
    if case.series.percent:
        notes.append("the log is in percent; shown and judged as fractions")
    if case.series.clips is None:
        notes.append("standard error unknown: the log does not show how many clips; add --clips N")
    else:
        notes.append(f"standard errors are of {case.series.clips} clips")
    if result.silent_gates:
        epochs = ", ".join(map(str, result.silent_gates))
        notes.append(f"the log has no validation at the gates of epoch {epochs}")
    return curve, result, tuple(notes)


def _lacking(curve: Curve, metric: str | None) -> str:
    names = curve.metric_names()
    if not names:
        return f"{curve.path} has no validation, so there is nothing to judge. See: pcan diagnose"
    name = f'metric "{metric}"' if metric else "top-1"
    return (
        f"{curve.path} has no {name}; its validations have: {', '.join(names[:12])}. "
        + how_to_name(names, "Name the metric to judge")
    )
