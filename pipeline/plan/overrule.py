"""The judge with verdicts that a person has overruled taken out. Pure, as the judge is."""

import dataclasses
from collections.abc import Sequence

from pipeline.plan import judge as judging
from pipeline.plan.judge import Rules
from pipeline.plan.search.rung_judge import is_check
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.shared.measurement import Measurement


def judge(history: Sequence[Measurement], rules: Rules) -> Verdict:
    """Decide whether a trial goes on after its latest epoch; see `plan.judge.judge`.

    A gate or a start that was overruled no longer stops this trial; overruled patience begins to
    count anew with the epoch after. Everything else is judged as ever, so a trial that goes on
    meets the next gate.
    """
    lifted: Verdict | None = None
    left = rules
    while True:
        verdict = judging.judge(history, left)
        if not verdict.stops or not _is_overruled(verdict, rules):
            break
        lifted = lifted or verdict
        left = _without(left, verdict)
    if lifted is None or verdict.stops:
        return verdict
    return dataclasses.replace(
        lifted,
        kind=VerdictKind.WATCH,
        reason=f"{lifted.reason} (overruled)",
        state=None,
        cause=None,
    )


def _is_overruled(verdict: Verdict, rules: Rules) -> bool:
    if verdict.rule == "patience" and rules.patience is not None:
        overruled = [epoch for epoch, rule in rules.overruled if rule == "patience"]
        return any(0 <= verdict.epoch - epoch < rules.patience.epochs for epoch in overruled)
    return (verdict.epoch, verdict.rule) in rules.overruled


def _without(rules: Rules, verdict: Verdict) -> Rules:
    """Return the rules without the one that gave this verdict."""
    if verdict.rule == "patience":
        return dataclasses.replace(rules, patience=None)
    if verdict.epoch == 0:
        return dataclasses.replace(rules, start=None)
    if is_check(verdict.rule):
        return dataclasses.replace(rules, search=None)
    gates = tuple(gate for gate in rules.gates if gate.epoch != verdict.epoch)
    return dataclasses.replace(rules, gates=gates)
