"""A search's rules for one running trial: from its measurements to a verdict.

Part of the judge. The plan's own gates only warn here: they were written for the plan's recipes,
and a floor at epoch 1 stops the eventual winner of a search more often than not.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

from pipeline.plan.search.rules import RULES, AsyncHalving, Decision, Rung, RungReading
from pipeline.plan.verdict import Verdict, VerdictKind, non_finite
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import Cause, State


@dataclasses.dataclass(frozen=True, kw_only=True)
class RungRules:
    """What a trial of a search is judged by, beyond the plan's own rules.

    Args:
        number: the trial's.
        field: the trials that got to a check; None while that is unknown, then it is asked again
            after the next epoch.
        passed: checks that an earlier verdict let the trial through; such a verdict stands,
            whatever came later.
    """

    rule: AsyncHalving
    number: int
    field: Callable[[int], Rung | None]
    passed: frozenset[int] = frozenset()


def check_loss(latest: Measurement) -> Iterator[Verdict]:
    """End a trial whose training loss is not finite: its accuracy may look sound to the end."""
    if latest.loss is None or math.isfinite(latest.loss):
        return
    yield non_finite(latest.epoch, latest.top1, "loss", f"the training loss is {latest.loss}")


def check(measured: Sequence[Measurement], searching: RungRules) -> Iterator[Verdict]:
    """Give the rule's verdict if the trial has got to a check."""
    latest = measured[-1]
    due = searching.rule.due(latest.epoch, searching.passed)
    if due is None:
        return
    reading = read_at(measured, due, searching.rule)
    field = searching.field(due) if reading is not None else None
    if reading is None or field is None:
        return
    full = dataclasses.replace(field, readings={**field.readings, searching.number: reading.value})
    decision = searching.rule.decide(due, searching.number, full, reading)
    yield verdict_of(decision, latest, searching.rule.name)


def read_at(measured: Sequence[Measurement], check: int, rule: AsyncHalving) -> RungReading | None:
    """Return what a rule reads of a trial at a check, None if there is no finite value."""
    until = [m for m in measured if 0 < m.epoch <= check]
    best = max((m.top1 for m in until if m.finite), default=None)
    if best is None:
        return None
    averaged = next((m.averaged for m in until if m.epoch == check), None)
    return RungReading.of(best, averaged if rule.reads(check) else None)


def verdict_of(decision: Decision, latest: Measurement, rule: str) -> Verdict:
    """Return a rule's decision as a verdict on the trial's latest epoch."""
    prunes, pauses = decision.kind is VerdictKind.PRUNE, decision.kind is VerdictKind.PAUSE
    return Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=decision.kind,
        rule=rule_name(decision.check, rule),
        threshold=None if pauses else decision.cut,
        reading=decision.reading.value,
        reason=decision.reason,
        state=State.PRUNED if prunes else None,
        cause=Cause(rule) if prunes else Cause.PAUSED if pauses else None,
    )


def rule_name(check: int, rule: str) -> str:
    """Return how a verdict names a check, as it names a gate: "epoch 8 halving"."""
    return f"epoch {check} {rule}"


def is_check(rule: str | None) -> bool:
    """Whether a verdict is that of a search's stopping rule, which is always worth a line."""
    return rule is not None and rule.rpartition(" ")[2] in RULES


def downgrade(verdict: Verdict) -> Verdict:
    """Turn a gate's stop into a warning."""
    if not verdict.stops:
        return verdict
    reason = f"{verdict.reason} (below plan; in a search the plan's gates only warn)"
    return dataclasses.replace(
        verdict, kind=VerdictKind.WATCH, reason=reason, state=None, cause=None
    )
