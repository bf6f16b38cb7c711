"""What the log lacks, and how the run ended: early stopping, a crash, or before its time."""

import re
from collections.abc import Iterator
from typing import Any

from pipeline.diagnose.curve import Evaluation
from pipeline.diagnose.log_case import Finding, LogCase, at, error, note, warning
from pipeline.diagnose.series import Series, how_to_name
from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.sweep import Patience
from pipeline.plan.verdict import VerdictKind, percent
from pipeline.shared.counted import counted
from pipeline.shared.states import Cause

#: Stopping with this share of the planned epochs left is early ..
LEFT = 1 / 4
#: .. and with the rate above this share of its peak the schedule had hardly begun to settle.
RATE_LEFT = 1 / 2
#: What Python and torchrun say of a program that someone stopped (Ctrl+C).
_BY_HAND = re.compile(r"^KeyboardInterrupt\b|SIGINT")
#: How many validations early stopping waited, in MMEngine's words and in ours.
_COUNT = re.compile(r"in the last (\d+) records|(\d+) epochs in a row")


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
            "schedule are reached. A decline itself has another cause: patience only "
            "ended the run."
        ),
    )


def stopped_early(case: LogCase) -> Iterator[Finding]:
    """Report that something ended the run before its planned epochs, and what."""
    planned, last = case.planned, case.curve.last_epoch
    reason = why_stopped(case)
    if reason is None or (planned is not None and last >= planned):
        return
    of = f" of {planned}" if planned else ""
    hidden = _hidden_gain(case)
    gates = "its gates on this log: pcan gates replay"
    yield note(
        "stopped_early",
        epoch=last,
        evidence=f"the last epoch is {last}{of}: {reason}{f'; {hidden}' if hidden else ''}",
        remedy=f"A smaller min_delta counts gains of that size; {gates}"
        if hidden
        else f"None, if the plan stops it there; {gates}",
    )


def _hidden_gain(case: LogCase) -> str | None:
    """Return the gain while patience ran out, in steps too small to count; None without one."""
    stopped, hook = stopped_by_patience(case), case.curve.facts.early_stopping or {}
    if stopped is None:
        return None
    counted = _COUNT.search(stopped)
    waited = int(counted[1] or counted[2]) if counted else hook.get("patience")
    values = case.sound
    if not isinstance(waited, int) or not 0 < waited < len(values):
        return None
    before, since = values[:-waited], values[-waited:]
    old, new = (max(part, key=lambda pair: (pair[1], -pair[0].epoch)) for part in (before, since))
    if new[1] <= old[1]:
        return None
    return (
        f"meanwhile top-1 rose from {at(*old)} to {at(*new)}, a gain of "
        f"{percent(new[1] - old[1])} that min_delta did not count"
    )


def incomplete(case: LogCase) -> Iterator[Finding]:
    """Find a run that ends before its planned epochs without a reason."""
    facts, planned, last = case.curve.facts, case.planned, case.curve.last_epoch
    if facts.test is not None and facts.test.finished and not case.curve.points:
        return
    if facts.traceback is not None:
        yield _failed(case, *facts.traceback)
        return
    if facts.failure is not None:
        if facts.failure.startswith(Cause.NAN):
            return  # the rule nan_loss reports it
        yield error(
            "incomplete",
            epoch=last or None,
            evidence=f"the trial failed {_when(case)}: {facts.failure}",
            remedy="See the last lines of job.log and rank0.log in its run directory.",
        )
        return
    if planned is None or last >= planned or why_stopped(case) is not None:
        return
    if not case.curve.points:
        return  # the rule no_validation says what the log is
    yield note(
        "incomplete",
        epoch=last or None,
        evidence=f"the log ends in epoch {last} of {planned}, without giving a reason",
        remedy="It still runs, or it was killed (out of memory, time limit, lost connection): "
        "see the console output or the scheduler's log, then resume from the last checkpoint.",
    )


def _failed(case: LogCase, line: int, message: str) -> Finding:
    """Return the finding about the error that ended the program, or about who ended it."""
    last, test = case.curve.last_epoch, case.curve.facts.test
    whole = case.planned is not None and last >= case.planned and case.curve.points[-1].metrics
    again = "resume from the last checkpoint" if last else "start the same command again"
    what, at_line = "program", f"(line {line}): {message.rstrip('. ')}"
    if not last and test is not None:
        what, again = "test", "start the test again"
    if whole:
        return note(
            "incomplete",
            epoch=last,
            evidence=f"the training is complete; the program failed after it {at_line}",
            remedy="None for the training: the error is of what came behind it, as a test.",
        )
    if _BY_HAND.search(message):
        return note(
            "incomplete",
            epoch=last or None,
            evidence=f"the {what} was stopped by hand {_when(case)} {at_line}",
            remedy=f"None, if that was meant; else {again}.",
        )
    return error(
        "incomplete",
        epoch=last or None,
        evidence=f"the {what} failed {_when(case)} {at_line}",
        remedy=_after_the_error(message, again),
    )


def _after_the_error(message: str, again: str) -> str:
    if re.search(r"DUE TO (?:TIME LIMIT|PREEMPTION)|SIGTERM", message):
        return f"The scheduler or a person ended it: {again}, with a longer limit if it had one."
    if re.search(r"oom[-_]kill|SIGKILL", message):
        return (
            f"Mostly the host's memory was full: num_workers lower, or more of it; then {again}."
        )
    if "Watchdog" in message:
        return f"A rank stood still: the other ranks' logs show the first error; then {again}."
    return f"Fix that error, then {again}."


def _when(case: LogCase) -> str:
    """Say how far the run had come: an epoch that it validates is over only then."""
    facts, points = case.curve.facts, case.curve.points
    if points:
        over = points[-1].metrics or facts.val_interval != 1
        return f"{'after' if over else 'in'} epoch {points[-1].epoch}"
    if facts.test is not None:
        return f"after {facts.test.done} of {facts.test.total} batches"
    return "before its first epoch"


def why_stopped(case: LogCase) -> str | None:
    """Return what ended the run before its time, in words; None if nothing shows that."""
    return stopped_by_patience(case) or case.curve.facts.stop_cause


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
    """Report that nothing was validated, what the log is instead, and what to do about that."""
    curve = case.curve
    if curve.validated:
        return
    severity, evidence, remedy = _what_it_is(case)
    yield Finding(
        id="no_validation", severity=severity, epoch=None, evidence=evidence, remedy=remedy
    )


def _what_it_is(case: LogCase) -> tuple[str, str, str]:
    """Return severity, evidence and remedy for a log without a validated epoch."""
    curve, facts = case.curve, case.curve.facts
    if facts.no_metric is not None:
        epoch, line = facts.no_metric
        return (
            "error",
            f"the validation of epoch {epoch} (line {line}) has no metric in its line",
            "Give the log as the program wrote it: `name: value` stands behind `Epoch(val) [..]`. "
            "If it is that, the evaluation returned nothing: see its configuration.",
        )
    if curve.points:
        interval = facts.val_interval
        return (
            "warning",
            f"no validation of an epoch is logged; it has the training of {_epochs(case)}"
            + (f"; val_interval is {interval}" if interval and interval > 1 else ""),
            _how_to_validate(case),
        )
    if facts.test is not None:
        return _test_run(facts.test, failed=facts.traceback is not None)
    if facts.by_iteration:
        return (
            "error",
            "no validation of an epoch is logged; it counts iterations, not epochs",
            "Train by epoch (EpochBasedTrainLoop), or give its validations as a table of "
            "epoch,top1[,lr] (CSV), numbered 1, 2, 3.",
        )
    if facts.traceback is not None or facts.failure is not None:
        return (
            "note",
            "the run failed before its first epoch",
            "See the error of the finding `incomplete`.",
        )
    if curve.format in ("CSV", "JSON table"):
        return (
            "error",
            "the table has no row of an epoch, only its header",
            "If the training still runs, look again after its first epoch.",
        )
    return (
        "error",
        "the run never began: it has no epoch at all, only what is printed before the first",
        "If it still starts, look again. Otherwise the console output or the scheduler's log "
        "shows why it ended; then start the same command again.",
    )


def _epochs(case: LogCase) -> str:
    first, last = case.curve.points[0].epoch, case.curve.last_epoch
    return f"epoch {first}" if first == last else f"epochs {first}-{last}"


def _how_to_validate(case: LogCase) -> str:
    """Return what makes a run like this one validate, by what its configuration says of it."""
    interval = case.curve.facts.val_interval
    if interval is not None and interval > case.curve.last_epoch - 1:
        return (
            "Nothing, if it still runs or ended before its first validation; else give the log of "
            "rank 0."
        )
    if interval is not None and case.curve.format.startswith("MMCV"):
        return (
            "Its configuration asks for validations: MMAction2 0.x and PYSKL carry them out only "
            "with tools/train.py --validate. Else give the log of rank 0."
        )
    if case.curve.format in ("CSV", "JSON table"):
        return "Log a validation of each epoch in the same table, such as `val_acc` or `top1`."
    return (
        "Give the log of rank 0, or set train_cfg.val_interval (MMEngine) or "
        "evaluation.interval (MMCV) to 1."
    )


def _test_run(test: Evaluation, failed: bool) -> tuple[str, str, str]:
    if not test.finished:
        return (
            "note",
            f"it is the log of a test, not of a training: {test.done} of {test.total} batches, "
            "without a result",
            (
                "See the finding `incomplete`"
                if failed
                else "If it no longer runs, start the test again"
            )
            + "; for the training, give the log of its own work dir.",
        )
    shown = ", ".join(f"{name} {value:g}" for name, value in list(test.metrics.items())[:6])
    return (
        "note",
        f"it is the log of a finished test, not of a training: {shown or 'no metric'}",
        "None. For the training, give the log of its own work dir.",
    )


def no_top1(case: LogCase) -> Iterator[Finding]:
    """Report that the validations lack the metric, and which metrics they have."""
    if not case.curve.validated or case.series is not None:
        return
    names = case.curve.metric_names()
    yield error(
        "no_top1",
        epoch=None,
        evidence=f"{counted(len(case.curve.validated), 'validation')}, none with the metric; "
        f"they have: {', '.join(names[:12])}",
        remedy=how_to_name(names, "Name the metric to judge"),
    )
