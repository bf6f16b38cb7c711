"""The lines that a launch prints about one trial."""

import collections
import re
from collections.abc import Sequence

from pipeline.errors import NotReady, PcanError
from pipeline.job.exit_cause import Outcome, last_lines, most_relevant_log
from pipeline.job.slots import Slot
from pipeline.plan.search.rung_judge import is_check
from pipeline.plan.verdict import Verdict, VerdictKind, percent
from pipeline.shared.counted import counted
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause, State


def start_text(name: str, slot: Slot, number: int, epoch: int, folder: str) -> str:
    """Return the message for a job that was started.

    Args:
        number: which start of the trial it is, from 1.
        epoch: that of the checkpoint it goes on from, 0 without one.
    """
    where = f"GPUs {slot.shown}" if slot.gpus else "the CPU"
    attempt = f" (attempt {number})" if number > 1 else ""
    after = f", going on after epoch {epoch}" if epoch else ""
    return f"{name} starts on {where}{attempt}{after}: {folder}"


#: What a job says of one bank of prototypes: its name, then how it began.
BANK = re.compile(r"prototypes_\w+: (.+?)\.?$")


def weights_lines(name: str, notes: Sequence[str]) -> list[str]:
    """Return what a job found in its starting weights; banks that began alike share a line."""
    lines = [note for note in notes if not BANK.match(note)]
    banks = collections.Counter(found[1] for note in notes if (found := BANK.match(note)))
    lines += [f"{counted(count, 'prototype bank')}: {how}." for how, count in banks.items()]
    return [f"{name}: {line}" for line in lines]


def epoch_text(name: str, epochs: int | None, m: Measurement, verdict: Verdict) -> str:
    """Return the message for an epoch: what it measured, and what the rules say to it.

    Args:
        epochs: how many the trial will have; None where that is unknown.
    """
    branches = [
        f"{branch} {percent(value, 1)}"
        for branch, value in (("rgb", m.rgb_top1), ("pose", m.pose_top1))
        if value is not None
    ]
    inside = f" ({', '.join(branches)})" if branches else ""
    lr = f", lr {m.lr:.3g}" if m.lr is not None else ""
    took = f", {m.seconds:.0f} s" if m.seconds is not None else ""
    error = f" ± {100 * verdict.std_error:.2f}" if verdict.std_error is not None else ""
    total = f"/{epochs}" if epochs else ""
    head = f"{name} epoch {m.epoch}{total}: top-1 {percent(m.top1)}{error}{inside}{lr}{took}"
    if verdict.kind is VerdictKind.GO and not is_check(verdict.rule):
        return head
    reason = verdict.reason.removeprefix(f"epoch {m.epoch}: ")
    return f"{head}\n  {verdict.kind.value}: {reason}"


def completion_text(name: str, epoch: int, outcome: Outcome, details: str = "") -> str:
    """Return the message for a trial that has ended, or was given back unfinished.

    Args:
        epoch: the last one measured.
        details: of a failed trial the end of its log, of any other what the plan does next.
    """
    if outcome.state == State.FAIL:
        head = f"{name} failed after {counted(epoch, 'epoch')} ({outcome.cause}): {outcome.reason}"
        return f"{head}\n{details}" if details else head
    if outcome.state is None and outcome.cause == Cause.PAUSED:
        return f"{name} is paused; its place goes to the next."
    state = (outcome.state or Cause.INTERRUPTED.value).lower()
    reason = f": {outcome.reason.rstrip('.')}" if outcome.reason else ""
    return f"{name} {state}{reason}. {details}".rstrip()


def log_excerpt(rundir: RunDir, ranks: int) -> str:
    """Return the last lines of the log that says most about a failure, and its name."""
    log = most_relevant_log(rundir, ranks)
    lines = "\n".join(f"    {line}" for line in last_lines(log))
    return f"  Last lines of {log}:\n{lines}"


def refusal(name: str, error: Exception) -> Exception:
    """Return a NotReady for what the system refused a trial: a folder, room on the disk."""
    if not isinstance(error, OSError):
        return error
    where = f": {error.filename}" if error.filename else ""
    return NotReady(
        f"{name} cannot go on here: {error.strerror or error}{where}. Fix that, then run the "
        "same launch."
    )


def error_text(error: Exception) -> str:
    """Return an error in one line; a bug keeps its kind."""
    return str(error) if isinstance(error, PcanError) else f"{type(error).__name__}: {error}"
