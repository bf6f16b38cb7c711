"""Replay a plan's rules on a log file: from the log's own numbers to the judge's."""

from pathlib import Path

from pipeline.diagnose.curve import Curve
from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.plan_context import PlanContext
from pipeline.diagnose.read_log import read_log
from pipeline.errors import InputError
from pipeline.plan.replay import Replay, replay


def replay_log(
    against: PlanContext, log: Path, metric: str | None = None, clips: int | None = None
) -> tuple[Curve, Replay, tuple[str, ...]]:
    """Judge a log by the rules of a plan's variant.

    Returns:
        The log's curve, the verdicts, and what a reader should know about both.

    Raises:
        InputError: the log has no such metric; the text says which it has.
    """
    assert against.sweep is not None and against.variant is not None
    curve = read_log(log)
    case = make_case(curve, metric or against.metric(curve.metric_names()), clips=clips)
    if case.series is None:
        raise InputError(_lacking(curve, metric))
    result = replay(
        against.sweep,
        against.variant,
        case.series.measurements(),
        epochs_logged=curve.last_epoch,
        nan_epoch=curve.nan_loss[0] if curve.nan_loss else None,
        clips=case.series.clips,
    )
    notes = [*curve.notes, *case.series.notes, f"judged by {case.series.metric}"]
    if case.series.percent:
        notes.append("the log is in percent; shown and judged as fractions")
    if case.series.clips is None:
        notes.append("standard error unknown: the log does not show how many clips; say --clips N")
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
    wanted = f'metric "{metric}"' if metric else "top-1"
    return (
        f"{curve.path} has no {wanted}; its validations have: {', '.join(names[:12])}. "
        f"Name one: --metric {names[0]}"
    )
