"""Checks of the ladder: rules that overlap, can never match, or leave a stop without a next.

Also of its stages (`warm_start: {best_of: VARIANT}`): whether the earlier one is complete by then.
"""

from collections.abc import Iterator

from pipeline.plan.gates import Gate
from pipeline.plan.lint.lint_finding import Check, LintContext, LintFinding
from pipeline.plan.sweep import LadderRule, Sweep, Variant
from pipeline.shared.states import Cause


def overlapping_rules(plan: LintContext) -> Iterator[LintFinding]:
    """Two rules match the same value: the order decides, or the later one is dead."""
    for i, j, first, second in _pairs(plan.sweep):
        if first.below is None or second.below is None or first.epoch != second.epoch:
            continue
        where = plan.sweep.where("ladder", "after", j)
        if second.below <= first.below:
            yield LintFinding.error(
                "rule_unreachable",
                where,
                f"epoch {second.epoch}: below {second.below:g} comes after below "
                f"{first.below:g}, which matches all of it",
                why="the first match wins, so this rule never does",
                instead=f"put it before rule {i + 1}",
            )
        elif first.next != second.next:
            yield LintFinding.note(
                "rules_overlap",
                where,
                f"epoch {first.epoch}: a value below {first.below:g} is also below "
                f"{second.below:g}, and the two name different variants "
                f"({first.next[0]} and {second.next[0]})",
                why="read as two independent sentences, both apply at once",
                instead="nothing, if the order is as meant",
                resolved=f"the first match wins: below {first.below:g} {first.next[0]} is next, "
                f"from there to below {second.below:g} {second.next[0]}",
            )


def repeated_rules(plan: LintContext) -> Iterator[LintFinding]:
    """The same condition twice: the second never matches."""
    for i, j, first, second in _pairs(plan.sweep):
        same = (first.rule, first.cause, first.complete) == (
            second.rule,
            second.cause,
            second.complete,
        )
        if not same or first.below is not None or first.epoch != second.epoch:
            continue
        if second.below is not None:
            continue
        yield LintFinding.error(
            "rule_unreachable",
            plan.sweep.where("ladder", "after", j),
            f"the condition of rule {i + 1} again: {second.condition()}",
            why="the first match wins, so this rule never does",
            instead="one rule with one list of variants",
        )


def rule_without_gate(plan: LintContext) -> Iterator[LintFinding]:
    """A rule waits for a stop that no gate can cause."""
    for i, rule in enumerate(plan.sweep.ladder.after):
        if rule.epoch is None:
            continue
        gates = [g for v in _in_ladder(plan.sweep) for g in v.gates if g.epoch == rule.epoch]
        where = plan.sweep.where("ladder", "after", i)
        if rule.rule is not None:
            if not any(kind.name == rule.rule for gate in gates for kind in gate.kinds):
                yield _no_gate(where, rule, "has improve_on_epoch")
            continue
        stops = [gate.stops_below for gate in gates if gate.stops_below is not None]
        if not stops:
            yield _no_gate(where, rule, "can stop a run")
        elif rule.below is not None and rule.below > max(stops):
            yield LintFinding.warning(
                "rule_partly_dead",
                where,
                f"epoch {rule.epoch}: the ladder says below {rule.below:g}, but only "
                f"below {max(stops):g} is a run stopped there",
                why=f"from {max(stops):g} to below {rule.below:g} the run goes on and the rule "
                "does nothing",
                instead=f"below: {max(stops):g}, or floor: {rule.below:g} in the gate",
            )


def _no_gate(where: str, rule: LadderRule, lacking: str) -> LintFinding:
    return LintFinding.error(
        "rule_unreachable",
        where,
        f"{rule.condition()}, but no gate at epoch {rule.epoch} {lacking}",
        why="only a trial that a gate stopped moves the ladder on",
        instead=f"a gate at epoch {rule.epoch} that stops it, or no such rule",
    )


def stop_without_next(plan: LintContext) -> Iterator[LintFinding]:
    """A gate stops a run and the ladder has nothing that follows."""
    rules = plan.sweep.ladder.after
    seen: set[tuple[int, str]] = set()
    for variant in _in_ladder(plan.sweep):
        for i, gate in enumerate(variant.gates):
            gap = _gap(gate, rules)
            if gap is None or (gate.epoch, gap) in seen:
                continue
            seen.add((gate.epoch, gap))
            own = ("variants", variant.name, "gates", i)
            place = own if own in plan.sweep.lines else ("gates", i)
            yield LintFinding.warning(
                "stop_without_next",
                plan.sweep.where(*place),
                f"epoch {gate.epoch}: {gap}, and no rule of the ladder matches",
                why="the sweep ends there without trying a fallback",
                instead="a rule in ladder.after for it, or a comment that this is meant",
            )


def _gap(gate: Gate, rules: tuple[LadderRule, ...]) -> str | None:
    here = [rule for rule in rules if rule.epoch == gate.epoch]
    covered = max((rule.below for rule in here if rule.below is not None), default=None)
    return gate.unanswered(covered, [rule.rule for rule in here if rule.rule is not None])


def nan_without_next(plan: LintContext) -> Iterator[LintFinding]:
    """A non-finite loss has no fallback."""
    rules = plan.sweep.ladder.after
    if not rules or any(rule.cause == Cause.NAN for rule in rules):
        return
    yield LintFinding.note(
        "nan_without_next",
        plan.sweep.where("ladder", "after"),
        "no rule for a trial that ends with a non-finite loss",
        why="the ladder stops there, as for any other failure",
        instead="- {cause: nan, next: [the variant with the lower lr]}",
    )


def variants_and_ladder(plan: LintContext) -> Iterator[LintFinding]:
    """Variants that are never reached, named in vain, or named though left out."""
    sweep, reached = plan.sweep, _reachable(plan.sweep)
    for name, variant in sweep.variants.items():
        where = sweep.where("variants", name)
        if variant.in_ladder and name not in reached and name not in sweep.makers:
            yield LintFinding.warning(
                "variant_never_reached",
                where,
                f"no way through the ladder leads to {name}",
                why="it is only run when named or with --policy all",
                instead=f"{name} in a rule's next, or in_ladder: false to say so",
            )
        if not variant.in_ladder and name in reached:
            yield LintFinding.error(
                "left_out_but_named",
                where,
                f"{name} has in_ladder: false, but the ladder names it",
                why="one of the two is not meant",
                instead="take it out of next, or drop in_ladder: false",
            )
    for i, rule in enumerate(sweep.ladder.after):
        if sweep.ladder.start in rule.next:
            yield LintFinding.warning(
                "ladder_loop",
                sweep.where("ladder", "after", i, "next"),
                f"rule {i + 1} leads back to {sweep.ladder.start}, the ladder's start",
                why="each variant is run at most once, so it is passed over",
                instead="leave it out",
            )


def _pairs(sweep: Sweep) -> Iterator[tuple[int, int, LadderRule, LadderRule]]:
    rules = sweep.ladder.after
    for j, second in enumerate(rules):
        for i, first in enumerate(rules[:j]):
            yield i, j, first, second


def _in_ladder(sweep: Sweep) -> list[Variant]:
    names = _reachable(sweep)
    return [variant for name, variant in sweep.variants.items() if name in names]


def _reachable(sweep: Sweep) -> set[str]:
    named = {name for rule in sweep.ladder.after for name in rule.next}
    return named | {sweep.ladder.start}


def stage_before_its_start(plan: LintContext) -> Iterator[LintFinding]:
    """The ladder reaches a stage at a point where its earlier one need not be complete."""
    sweep = plan.sweep
    first = sweep.variants[sweep.ladder.start].starts_from
    if first is not None:
        yield _too_early(sweep, ("ladder", "start"), sweep.ladder.start, first)
    for i, rule in enumerate(sweep.ladder.after):
        for j, name in enumerate(rule.next):
            earlier = sweep.variants[name].starts_from
            if earlier is not None and earlier not in _complete_by(sweep, rule):
                yield _too_early(sweep, ("ladder", "after", i, "next", j), name, earlier)


def _complete_by(sweep: Sweep, rule: LadderRule) -> list[str]:
    """Return the variants that are complete for certain when a rule of the ladder matches."""
    found: list[str] = []
    name = rule.complete
    while name is not None:
        found.append(name)
        name = sweep.variants[name].starts_from
    return found


def _too_early(sweep: Sweep, keys: tuple[str | int, ...], name: str, earlier: str) -> LintFinding:
    return LintFinding.warning(
        "stage_before_its_start",
        sweep.where(*keys),
        f"the ladder can reach {name} while {earlier}, whose best trial it starts from, has no "
        "complete trial",
        why="the launch then ends there and names the command that runs the earlier stage",
        instead=f"{{complete: {earlier}, next: [{name}]}} in ladder.after",
    )


def stage_never_follows(plan: LintContext) -> Iterator[LintFinding]:
    """A rule waits for the completion of a variant that the ladder never runs."""
    sweep = plan.sweep
    named = {name for rule in sweep.ladder.after for name in rule.next} | {sweep.ladder.start}
    for i, rule in enumerate(sweep.ladder.after):
        if rule.complete is not None and rule.complete not in named:
            yield LintFinding.error(
                "rule_unreachable",
                sweep.where("ladder", "after", i, "complete"),
                f"{rule.condition()}, but no way through the ladder leads to {rule.complete}",
                why="the ladder asks this rule only after a variant that it ran itself",
                instead=f"{rule.complete} in ladder.start or in a rule's next",
            )


CHECKS: tuple[Check, ...] = (
    overlapping_rules,
    repeated_rules,
    rule_without_gate,
    stop_without_next,
    nan_without_next,
    variants_and_ladder,
    stage_before_its_start,
    stage_never_follows,
)
