"""Run all rules over a log; the result as text and as `pcan diagnose --json`."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pipeline.diagnose.log_case import SEVERITIES, Finding, LogCase
from pipeline.diagnose.rules import completeness, learning, rate, shape
from pipeline.diagnose.rules.together import consistent
from pipeline.plan.verdict import percent
from pipeline.shared.counted import counted

Rule = Callable[[LogCase], Iterator[Finding]]

#: Findings of equal severity keep this order: what broke, what caused it, how it ended.
RULES: tuple[Rule, ...] = (
    shape.nan_loss,
    completeness.no_validation,
    completeness.no_top1,
    shape.collapse,
    learning.never_learned,
    learning.no_generalisation,
    completeness.early_stop_too_strict,
    rate.warmup_on_finetune,
    rate.lr_too_small,
    rate.lr_too_large,
    rate.lr_exhausted,
    shape.best_at_start,
    shape.unstable,
    learning.overfit,
    shape.decline,
    shape.branch_collapse,
    completeness.stopped_early,
    completeness.incomplete,
)


def examine(case: LogCase, more: Iterable[Rule] = ()) -> list[Finding]:
    """Return the findings that can stand together, the most severe first.

    Args:
        more: further rules, such as the conformance to a plan.
    """
    findings = consistent(finding for rule in (*RULES, *more) for finding in rule(case))
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def report(case: LogCase, findings: Iterable[Finding]) -> dict[str, Any]:
    """Return one log's entry of `pcan diagnose --json`."""
    curve, best = case.curve, case.series.best if case.series else None
    return {
        "schema": 1,
        "log": curve.path,
        "format": curve.format,
        "metric": case.series.metric if case.series else None,
        "epochs": curve.last_epoch,
        "validated": len(case.values),
        "best_epoch": best[0].epoch if best else None,
        "best_top1": best[1] if best else None,
        "clips": case.series.clips if case.series else None,
        "notes": [*curve.notes, *case.notes],
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


_MARK = {"error": "ERROR", "warning": "WARNING", "note": "NOTE"}


def diagnosis_text(case: LogCase, findings: Sequence[Finding], notes: Sequence[str] = ()) -> str:
    """Return one log's diagnosis as text; accuracies in percent."""
    lines = [title(case)]
    lines += [f"  ({note})" for note in (*case.curve.notes, *case.notes, *notes)]
    if not findings:
        lines.append("  Nothing found.")
    for finding in findings:
        lines.append(f"  {_MARK[finding.severity]} {finding.id}: {finding.evidence}.")
        lines.append(f"    {finding.remedy}")
    return "\n".join(lines)


def title(case: LogCase) -> str:
    """Return the line with a log's name, epochs and best epoch."""
    curve, best = case.curve, case.series.best if case.series else None
    trained = counted(curve.last_epoch, "epoch")
    if case.planned:
        trained = f"{curve.last_epoch} of {counted(case.planned, 'epoch')}"
    if curve.facts.by_iteration and not curve.points:
        trained = "counted in iterations, not epochs"
    if curve.facts.test is not None and not curve.points:
        trained = "a test"
    title = f"{curve.path} ({curve.format}): {trained}"
    if best is None or case.series is None:
        return title
    clips = f", about {counted(case.series.clips, 'validation clip')}" if case.series.clips else ""
    return f"{title}, best {case.series.metric} {percent(best[1])} at epoch {best[0].epoch}{clips}"
