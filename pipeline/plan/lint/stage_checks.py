"""Checks of stages (`warm_start: {best_of: VARIANT}`): what the ladder and `like` make of them."""

from collections.abc import Iterator

from pipeline.plan.lint.lint_finding import Check, LintContext, LintFinding
from pipeline.plan.sweep import LadderRule, Sweep


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


CHECKS: tuple[Check, ...] = (stage_before_its_start, stage_never_follows)
