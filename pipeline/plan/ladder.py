"""The ladder: which variant follows what a trial ended with. Pure, and data of the sweep file.

Each variant is run at most once in the ladder. A completed variant ends it, unless a rule leads
on to a later stage; a failure other than a non-finite loss stops it, because no other recipe would
fix a broken job; once what broke it is repaired, a launch runs the same recipe again.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pipeline.plan.sweep import LadderRule, Sweep
from pipeline.plan.verdict import Verdict
from pipeline.shared.states import State, is_repairable


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariantOutcome:
    """How the recipe of a variant ended, as far as the ladder cares.

    Args:
        state: Optuna's; None while it runs, waits or is interrupted.
        verdict: the record of the verdict that stopped it, if one did.
        cause: the outcome's cause.
    """

    state: str | None
    verdict: Mapping[str, Any] | None = None
    cause: str | None = None

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """Return the outcome that a verdict which stops leads to."""
        return cls(state=verdict.state, verdict=verdict.record(), cause=verdict.cause)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LadderState:
    """Where the ladder stands: the variant to run now, or why it ended.

    `path` lists the variants in the order the ladder took them, the current one last.
    """

    variant: str | None
    path: tuple[str, ...]
    why: str


def matching_rule(sweep: Sweep, ended: VariantOutcome) -> LadderRule | None:
    """Return the first rule of the ladder that matches how a trial ended."""
    return next((rule for rule in sweep.ladder.after if _matches(rule, ended)), None)


def next_variant(sweep: Sweep, ended: VariantOutcome, tried: Sequence[str]) -> str | None:
    """Return the variant that follows, None if no rule matches or all were tried."""
    rule = matching_rule(sweep, ended)
    names = rule.next if rule is not None else ()
    return next((name for name in names if name not in tried), None)


def walk(sweep: Sweep, ended: Mapping[str, VariantOutcome]) -> LadderState:
    """Follow the ladder from its start through the variants that have ended.

    Args:
        ended: how each variant's recipe ended; one that is missing has not been run.
    """
    current, path = sweep.ladder.start, [sweep.ladder.start]
    while True:
        outcome = ended.get(current)
        if outcome is None or outcome.state is None:
            return LadderState(variant=current, path=tuple(path), why="")
        stage = sweep.ladder.stage_after(current, path)
        follower = stage if outcome.state == State.COMPLETE else next_variant(sweep, outcome, path)
        if follower is None:
            why = _why_none(sweep, current, outcome)
            return LadderState(variant=None, path=tuple(path), why=why)
        current = follower
        path.append(current)


def failure_text(sweep: str, variant: str, shown: str, cause: str | None) -> str:
    """Return that a trial failed and, where its cause can be removed, how it is run again.

    Args:
        shown: how the trial is called in the sentence.
    """
    head = f"{shown} failed ({cause or 'unknown cause'})"
    if not is_repairable(cause):
        return f"{head}, and the same recipe would fail again"
    return f"{head}; with the cause removed, run it again: {retry_command(sweep, variant)}"


def retry_command(sweep: str, variant: str) -> str:
    """Return the command that runs a failed recipe again."""
    return f"pcan sweep launch {sweep} --variant {variant}"


def _matches(rule: LadderRule, ended: VariantOutcome) -> bool:
    if rule.cause is not None:
        return ended.cause == rule.cause
    if rule.complete is not None or ended.state != State.PRUNED or ended.verdict is None:
        return False
    if ended.verdict.get("epoch") != rule.epoch:
        return False
    if rule.rule is not None:
        return str(ended.verdict.get("rule", "")).endswith(rule.rule)
    top1 = ended.verdict.get("top1")
    return rule.below is not None and isinstance(top1, float) and top1 < rule.below


def _why_none(sweep: Sweep, current: str, ended: VariantOutcome) -> str:
    if ended.state == State.COMPLETE:
        return f"{current} is complete, which ends the ladder"
    if (rule := matching_rule(sweep, ended)) is not None:
        return f"{current} did not hold and every fallback ({', '.join(rule.next)}) was tried"
    if ended.state == State.FAIL:
        return failure_text(sweep.name, current, current, ended.cause)
    return f"{current} was stopped and the ladder names nothing that follows"
