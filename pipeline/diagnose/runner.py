"""Run all rules over a log and put the result into the words of `pcan diagnose --json`."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.diagnose.log_case import SEVERITIES, Finding, LogCase
from pipeline.diagnose.rules import coverage, rate, shape, stopping

Rule = Callable[[LogCase], Iterator[Finding]]

#: In the order a reader wants them among equals: what broke, what caused it, how it ended.
RULES: tuple[Rule, ...] = (
    shape.nan_loss,
    coverage.no_validation,
    coverage.no_top1,
    shape.collapse,
    shape.never_learned,
    stopping.early_stop_too_strict,
    rate.warmup_on_finetune,
    rate.lr_too_small,
    rate.lr_exhausted,
    shape.best_at_start,
    shape.unstable,
    shape.overfit,
    shape.branch_collapse,
    stopping.stopped_early,
    stopping.incomplete,
)


def examine(case: LogCase, more: Iterable[Rule] = ()) -> list[Finding]:
    """Return all findings, the most severe first.

    Args:
        more: further rules, such as the conformance to a plan.
    """
    found = [finding for rule in (*RULES, *more) for finding in rule(case)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


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
        "notes": [*curve.notes, *(case.series.notes if case.series else ())],
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
