"""Checks of the gates and of patience, each variant's own."""

from collections.abc import Iterator

from pipeline.plan.gates import Gate
from pipeline.plan.lint.lint_finding import FAR_BELOW_ERROR, Check, LintContext, LintFinding
from pipeline.plan.sweep import Variant
from pipeline.plan.verdict import percent, standard_error
from pipeline.shared.counted import counted

Placed = tuple[Variant, Gate, str]


def _gates(plan: LintContext) -> Iterator[Placed]:
    """Yield every gate once, with its variant and its place in the file."""
    for variant, place in plan.own("gates"):
        for i, gate in enumerate(variant.gates):
            yield variant, gate, plan.sweep.where(*place, i)


def floor_above_target(plan: LintContext) -> Iterator[LintFinding]:
    """A run that reaches the target would be stopped all the same."""
    for _, gate, where in _gates(plan):
        if gate.floor is not None and gate.target is not None and gate.floor > gate.target:
            yield LintFinding.error(
                "floor_above_target",
                where,
                f"the floor {gate.floor:g} of epoch {gate.epoch} is above its "
                f"target {gate.target:g}",
                why="a run that reaches the target is stopped, so the target never matters",
                instead=f"floor: {gate.target:g}, target: {gate.floor:g}",
            )


def floor_above_best_known(plan: LintContext) -> Iterator[LintFinding]:
    """A floor above everything that was ever reached stops every run that was ever seen."""
    known = plan.sweep.objective.best_known
    for _, gate, where in _gates(plan):
        if known is not None and gate.floor is not None and gate.floor > known:
            yield LintFinding.warning(
                "floor_above_best_known",
                where,
                f"the floor {gate.floor:g} of epoch {gate.epoch} is above the best "
                f"known {known:g}",
                why="no run so far would have passed it",
                instead=f"a floor of at most {known:g}, and {gate.floor:g} as the target",
            )


def target_above_goal(plan: LintContext) -> Iterator[LintFinding]:
    """A gate asks for more than the whole plan does."""
    goal = plan.sweep.objective.goal
    for _, gate, where in _gates(plan):
        level = gate.target if gate.target is not None else gate.floor
        if goal is not None and level is not None and level > goal:
            yield LintFinding.warning(
                "target_above_goal",
                where,
                f"the gate of epoch {gate.epoch} asks for {level:g}, the goal is {goal:g}",
                why="a run that reaches the goal would still be watched or stopped",
                instead=f"at most {goal:g}",
            )


def gate_never_judged(plan: LintContext) -> Iterator[LintFinding]:
    """A gate after the last epoch, or at an epoch that is not validated."""
    for variant in plan.sweep.variants.values():
        epochs = plan.epochs_of(variant)
        validated = plan.validated.get(variant.name)
        for i, gate in enumerate(variant.gates):
            where = plan.sweep.where("variants", variant.name, "gates", i)
            if ("variants", variant.name, "gates") not in plan.sweep.lines:
                where = plan.sweep.where("gates", i)
            if epochs is not None and gate.epoch > epochs:
                what, then = (
                    f"{variant.name} has {counted(epochs, 'epoch')}",
                    f"an epoch up to {epochs}",
                )
            elif validated is not None and gate.epoch not in validated:
                near = min(validated, key=lambda e: (abs(e - gate.epoch), e), default=None)
                what = f"{variant.name} does not validate epoch {gate.epoch}"
                then = f"epoch {near}, or train_cfg.val_interval: 1 in the variant's set"
            else:
                continue
            yield LintFinding.error(
                "gate_never_judged",
                where,
                f"a gate at epoch {gate.epoch}, but {what}",
                why="the gate is never judged, and nothing would show it",
                instead=then,
            )


def min_delta_too_fine(plan: LintContext) -> Iterator[LintFinding]:
    """A min_delta below one clip, or lost in the error of the validation set."""
    clips, known = plan.clips, plan.sweep.objective.best_known
    if not clips:
        return
    error = standard_error(known if known is not None else 0.5, clips) or 0.0
    for what, min_delta, where in _deltas(plan):
        if min_delta < 1 / clips:
            message = f"min_delta {min_delta:g} of {what} is less than one of {clips} clips"
            why, severity = "any gain at all counts, as with min_delta 0", "warning"
        elif min_delta < FAR_BELOW_ERROR * error:
            message = (
                f"min_delta {min_delta:g} of {what} is {min_delta * clips:.0f} of {clips} clips, "
                f"far below the standard error {error:.4f} of the metric"
            )
            why, severity = "a gain of that size is mostly chance; it delays a stop", "note"
        else:
            continue
        yield LintFinding(
            id="min_delta_too_fine",
            severity=severity,
            where=where,
            message=message,
            why=why,
            instead=f"min_delta: {error:.4f} to count only a gain of one standard error",
        )


def _deltas(plan: LintContext) -> Iterator[tuple[str, float, str]]:
    for variant, place in plan.own("patience"):
        if variant.patience is not None:
            yield "patience", variant.patience.min_delta, plan.sweep.where(*place)
    for _, gate, where in _gates(plan):
        if gate.improve_on_epoch is not None:
            yield f"the epoch {gate.epoch} gate", gate.min_delta, where


def patience_never_ends(plan: LintContext) -> Iterator[LintFinding]:
    """Patience as long as the training can never run out."""
    for variant, place in plan.own("patience"):
        epochs, patience = plan.epochs_of(variant), variant.patience
        if patience is None or epochs is None or patience.epochs < epochs:
            continue
        yield LintFinding.warning(
            "patience_never_ends",
            plan.sweep.where(*place),
            f"patience {patience.epochs} cannot run out in the "
            f"{counted(epochs, 'epoch')} of {variant.name}",
            why="it stops nothing",
            instead=f"fewer than {counted(epochs, 'epoch')}, or patience: null to say so",
        )


def watch_zone(plan: LintContext) -> Iterator[LintFinding]:
    """Between floor and target a run is neither good nor stopped."""
    for _, gate, where in _gates(plan):
        if gate.floor is None or gate.target is None or gate.floor >= gate.target:
            continue
        yield LintFinding.note(
            "watch_zone",
            where,
            f"epoch {gate.epoch}: {percent(gate.floor)} to below {percent(gate.target)} "
            "is neither as expected nor a reason to stop",
            why="a person reading the rule may decide either way",
            instead="nothing, if watching is meant; else one number for both",
            resolved="such a run is watched: it goes on, and the verdict says why",
        )


def improvement_and_target(plan: LintContext) -> Iterator[LintFinding]:
    """One gate asks for progress and for a level; only one of them may stop."""
    for _, gate, where in _gates(plan):
        if gate.improve_on_epoch is None or gate.target is None:
            continue
        since = gate.improve_on_epoch
        yield LintFinding.note(
            "improvement_and_target",
            where,
            f"epoch {gate.epoch} asks for {percent(gate.target)} and for an improvement "
            f"on epoch {since}; a run may do one without the other",
            why='"no improvement" does not say since when, nor what a slow rise is worth',
            resolved=f"without any epoch {since + 1}-{gate.epoch} better than epoch {since} by "
            "min_delta it is pruned; improving but below the target it is watched",
        )


def floor_is_the_start(plan: LintContext) -> Iterator[LintFinding]:
    """The best known value as a floor: equal is neither above nor below."""
    for variant, gate, where in _gates(plan):
        start = variant.warm_start.expect if variant.warm_start else None
        if not gate.floor_is_best_known or gate.floor != start:
            continue
        yield LintFinding.note(
            "floor_is_the_start",
            where,
            f"epoch {gate.epoch} has to exceed {percent(gate.floor or 0.0)}, which the "
            "starting weights reach by themselves; the rule leaves open what happens to a run "
            "that does not",
            why="a run that gained nothing in all these epochs could go on or stop",
            resolved="below it is pruned; exactly at it is watched, as not above the start",
        )


CHECKS: tuple[Check, ...] = (
    floor_above_target,
    floor_above_best_known,
    target_above_goal,
    gate_never_judged,
    min_delta_too_fine,
    patience_never_ends,
    watch_zone,
    improvement_and_target,
    floor_is_the_start,
)
