"""The lines that a launch prints about one trial."""

from pipeline.errors import NotReady, PcanError
from pipeline.job.exit_cause import Outcome, last_lines, most_relevant_log
from pipeline.plan.search.rung_judge import is_check
from pipeline.plan.verdict import Verdict, VerdictKind, percent
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir


def epoch_line(name: str, epochs: int, m: Measurement, verdict: Verdict) -> str:
    """Return what one epoch gave, and what the rules say to it."""
    branches = [
        f"{branch} {percent(value, 1)}"
        for branch, value in (("rgb", m.rgb_top1), ("pose", m.pose_top1))
        if value is not None
    ]
    inside = f" ({', '.join(branches)})" if branches else ""
    lr = f", lr {m.lr:.3g}" if m.lr is not None else ""
    took = f", {m.seconds:.0f} s" if m.seconds is not None else ""
    error = f" ± {100 * verdict.std_error:.2f}" if verdict.std_error is not None else ""
    head = f"{name} epoch {m.epoch}/{epochs}: top-1 {percent(m.top1)}{error}{inside}{lr}{took}"
    if verdict.kind is VerdictKind.GO and not is_check(verdict.rule):
        return head
    reason = verdict.reason.removeprefix(f"epoch {m.epoch}: ")
    return f"{head}\n  {verdict.kind.value}: {reason}"


def failure_text(name: str, epochs: int, rundir: RunDir, ranks: int, outcome: Outcome) -> str:
    """Return the message for a failed trial: the cause, then where to read on."""
    log = most_relevant_log(rundir, ranks)
    lines = "\n".join(f"    {line}" for line in last_lines(log))
    head = f"{name} failed after {epochs} epochs ({outcome.cause}): {outcome.reason}"
    return f"{head}\n  Last lines of {log}:\n{lines}"


def refusal(name: str, error: Exception) -> Exception:
    """Turn what the system refused a trial, a folder or room on the disk, into a sentence."""
    if not isinstance(error, OSError):
        return error
    where = f": {error.filename}" if error.filename else ""
    return NotReady(
        f"{name} cannot go on here: {error.strerror or error}{where}. Mend that, then run the "
        "same launch."
    )


def error_text(error: Exception) -> str:
    """Return an error in one line; a bug keeps its kind."""
    return str(error) if isinstance(error, PcanError) else f"{type(error).__name__}: {error}"
