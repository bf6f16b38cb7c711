"""What the log lacks, and how the run ended: early stopping, a crash, or before its time."""

from collections.abc import Iterator
from typing import Any

from pipeline.diagnose.log_case import Finding, LogCase, error, note, warning
from pipeline.diagnose.series import Series
from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.sweep import Patience
from pipeline.plan.verdict import VerdictKind, percent
from pipeline.shared.states import Cause

#: Stopping with this share of the planned epochs left is early ..
LEFT = 1 / 4
#: .. and with the rate above this share of its peak the schedule had hardly begun to settle.
RATE_LEFT = 1 / 2


def early_stop_too_strict(case: LogCase) -> Iterator[Finding]:
    """Find an early stop that came while most of the schedule was still ahead."""
    stopped, planned, rates = stopped_by_patience(case), case.planned, case.rates
    last = case.curve.last_epoch
    if stopped is None or not planned or not rates or planned - last < LEFT * planned:
        return
    rate, peak = rates[-1].lr_end or 0.0, case.peak
    if rate < RATE_LEFT * peak:
        return
    yield warning(
        "early_stop_too_strict",
        epoch=last,
        evidence=(
            f"{stopped}, with {planned - last} of {planned} planned epochs left and the lr at "
            f"{rate:g}, {rate / peak:.0%} of its peak {peak:g}"
        ),
        remedy=(
            "Use more patience or a smaller min_delta, so that the low rates at the end of the "
            "schedule are reached. The decline itself has another cause: patience only "
            "ended the run."
        ),
    )


def stopped_early(case: LogCase) -> Iterator[Finding]:
    """Report that something ended the run before its planned epochs, and what."""
    planned, last = case.planned, case.curve.last_epoch
    reason = stopped_by_patience(case) or case.curve.facts.stop_cause
    if reason is None or (planned is not None and last >= planned):
        return
    of = f" of {planned}" if planned else ""
    yield note(
        "stopped_early",
        epoch=last,
        evidence=f"the last epoch is {last}{of}: {reason}",
        remedy="None, if the plan stops it there; its gates on this log: pcan gates replay",
    )


def incomplete(case: LogCase) -> Iterator[Finding]:
    """Find a run that ends before its planned epochs without a reason."""
    facts, planned, last = case.curve.facts, case.planned, case.curve.last_epoch
    if facts.traceback is not None:
        line, message = facts.traceback
        yield error(
            "incomplete",
            epoch=last or None,
            evidence=f"the program failed after epoch {last} (line {line}): {message}",
            remedy="Fix that error, then resume from the last checkpoint.",
        )
        return
    if facts.failure is not None:
        if facts.failure.startswith(Cause.NAN):
            return  # the rule nan_loss reports it
        yield error(
            "incomplete",
            epoch=last or None,
            evidence=f"the trial failed after epoch {last}: {facts.failure}",
            remedy="See the last lines of job.log and rank0.log in its run directory.",
        )
        return
    reason = stopped_by_patience(case) or facts.stop_cause
    if planned is None or last >= planned or reason is not None:
        return
    yield note(
        "incomplete",
        epoch=last or None,
        evidence=f"the log ends in epoch {last} of {planned}, without giving a reason",
        remedy="It still runs, or it was killed (out of memory, time limit, lost connection): "
        "see the console output or the scheduler's log, then resume from the last checkpoint.",
    )


def stopped_by_patience(case: LogCase) -> str | None:
    """Return how early stopping ended the run as text, None if nothing shows that it did."""
    facts = case.curve.facts
    if facts.stop_message is not None:
        line, message = facts.stop_message
        return f"line {line}: {message.rstrip('. ')}"
    if facts.stop_cause is not None and facts.stop_cause.startswith(Cause.PATIENCE):
        return facts.stop_cause
    if facts.early_stopping is None or case.series is None:
        return None
    if (case.planned or 0) <= case.curve.last_epoch:
        return None
    return _by_its_own_rule(case.series, facts.early_stopping, case.curve.last_epoch)


def _by_its_own_rule(chosen: Series, hook: dict[str, Any], last: int) -> str | None:
    """Apply the run's own EarlyStoppingHook; it explains the end only if it stops right there."""
    patience, min_delta = hook.get("patience", 5), hook.get("min_delta", 0.1)
    if not isinstance(patience, int) or not isinstance(min_delta, int | float) or patience < 1:
        return None
    if hook.get("monitor") not in (None, chosen.metric):
        return None
    delta = abs(min_delta) / (100 if chosen.percent else 1)
    rules = Rules(patience=Patience(epochs=patience, min_delta=delta))
    verdicts = judge_all(chosen.measurements(), rules)
    if not verdicts or verdicts[-1].kind is not VerdictKind.STOP or verdicts[-1].epoch != last:
        return None
    return (
        f"its own rule (patience {patience}, min_delta {percent(delta)}) stops it there: "
        f"{verdicts[-1].reason}"
    )


def no_validation(case: LogCase) -> Iterator[Finding]:
    """Report that nothing was validated, and what the log has instead."""
    curve = case.curve
    if curve.validated:
        return
    if curve.facts.by_iteration:
        has = "it counts iterations, not epochs"
    elif curve.points:
        has = f"it has the training of epochs {curve.points[0].epoch}-{curve.last_epoch}"
    else:
        has = "it has no epoch at all"
    interval = curve.facts.val_interval
    yield Finding(
        id="no_validation",
        severity="warning" if curve.points and not curve.facts.by_iteration else "error",
        epoch=None,
        evidence=f"no validation of an epoch is logged; {has}"
        + (f"; val_interval is {interval}" if interval and interval > 1 else ""),
        remedy="Give the log of rank 0, or set train_cfg.val_interval (MMEngine) or "
        "evaluation.interval (MMCV) to 1.",
    )


def no_top1(case: LogCase) -> Iterator[Finding]:
    """Report that the validations lack the metric, and which metrics they have."""
    if not case.curve.validated or case.series is not None:
        return
    names = ", ".join(case.curve.metric_names()[:12])
    yield error(
        "no_top1",
        epoch=None,
        evidence=f"{len(case.curve.validated)} validations, none with the metric; "
        f"they have: {names}",
        remedy=f"Name the metric to judge: --metric {case.curve.metric_names()[0]}",
    )
