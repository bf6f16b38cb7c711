"""A diagnosis as text for people; accuracies in percent."""

from collections.abc import Sequence

from pipeline.diagnose.log_case import Finding, LogCase
from pipeline.plan.verdict import percent

_MARK = {"error": "ERROR", "warning": "WARNING", "note": "NOTE"}


def diagnosis_text(case: LogCase, findings: Sequence[Finding], notes: Sequence[str] = ()) -> str:
    """Return one log's diagnosis."""
    lines = [title(case)]
    chosen = case.series.notes if case.series else ()
    lines += [f"  ({note})" for note in (*case.curve.notes, *chosen, *notes)]
    if not findings:
        lines.append("  Nothing found.")
    for finding in findings:
        lines.append(f"  {_MARK[finding.severity]} {finding.id}: {finding.evidence}.")
        lines.append(f"    {finding.remedy}")
    return "\n".join(lines)


def title(case: LogCase) -> str:
    """Return the line that names a log and its best epoch."""
    curve, best = case.curve, case.series.best if case.series else None
    planned = f" of {case.planned}" if case.planned else ""
    title = f"{curve.path} ({curve.format}): {curve.last_epoch}{planned} epochs"
    if best is None or case.series is None:
        return title
    clips = f", about {case.series.clips} validation clips" if case.series.clips else ""
    return f"{title}, best {case.series.metric} {percent(best[1])} at epoch {best[0].epoch}{clips}"
