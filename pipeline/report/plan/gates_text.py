"""Lint and replay of a plan as text for people."""

from collections.abc import Sequence

from pipeline.plan.lint.lint_finding import LintFinding
from pipeline.plan.replay import Replay
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import Verdict, percent


def lint_text(sweep: Sweep, findings: Sequence[LintFinding]) -> str:
    """Return the findings, the open ones first."""
    unsettled = [f for f in findings if f.resolved is None]
    settled = [f for f in findings if f.resolved is not None]
    lines = [f"{sweep.shown_path}: {len(unsettled)} open, {len(settled)} resolved by a reading"]
    for finding in unsettled:
        lines += [*_finding(finding), f"    write: {finding.instead}"]
    for finding in settled:
        lines += [*_finding(finding), f"    resolved: {finding.resolved}"]
    return "\n".join(lines)


def _finding(finding: LintFinding) -> list[str]:
    mark = "RESOLVED" if finding.resolved is not None else finding.severity.upper()
    return [
        f"  {mark} {finding.id} ({finding.where}): {finding.message}",
        f"    why it matters: {finding.why}",
    ]


def replay_text(sweep: Sweep, log: str, result: Replay, notes: Sequence[str]) -> str:
    """Return the verdicts epoch by epoch, and what the rules would have saved."""
    lines = [f"{log}, by the rules of {sweep.name}", *(f"  ({note})" for note in notes)]
    for verdict in result.verdicts:
        lines.append(
            f"  {verdict.epoch:>4}  {percent(verdict.top1):>9} {_error(verdict):<6}  "
            f"{verdict.kind.value:<5}  {verdict.reason}"
        )
    lines.append(f"  {_summary(sweep, result)}")
    return "\n".join(lines)


def _error(verdict: Verdict) -> str:
    return "" if verdict.std_error is None else f"± {100 * verdict.std_error:.2f}"


def _summary(sweep: Sweep, result: Replay) -> str:
    if result.stopped_epoch is None:
        return f"Not stopped: all {result.epochs_logged} epochs would have run."
    saved = f"{result.epochs_saved} of {result.epochs_logged} epochs saved"
    if result.gpu_hours_saved is not None:
        saved += f", {result.gpu_hours_saved:g} GPU hours"
    if result.stopped_by == "patience":
        then = "The run is complete, which ends the ladder."
    elif result.next is not None:
        plan = sweep.variants[result.next].plan
        then = f"Next: {result.next}" + (f" (plan {plan})." if plan else ".")
    else:
        then = "The ladder names nothing that follows."
    return f"Stopped at epoch {result.stopped_epoch} by {result.stopped_by}: {saved}. {then}"
