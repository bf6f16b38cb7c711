"""Checks of the expected course against the gates, the schedules and the other variants."""

from collections.abc import Iterator

from pipeline.plan.course import expected, table_differences
from pipeline.plan.lint.lint_finding import Check, LintContext, LintFinding
from pipeline.plan.sweep import Variant
from pipeline.plan.verdict import percent
from pipeline.shared.counted import counted

_LR = "optim_wrapper.optimizer.lr"
#: A schedule has fallen where its lowest rate is under this share of its highest, and has risen
#: again where its last is above the lowest by the inverse; shorter courses show neither.
_FALLEN, _SHORTEST = 0.1, 4


def gate_inside_band(plan: LintContext) -> Iterator[LintFinding]:
    """A run just as expected would be watched, or even stopped."""
    for variant, place in plan.own("gates"):
        for i, gate in enumerate(variant.gates):
            band = expected(variant.bands, gate.epoch)
            if band is None:
                continue
            low, high = band
            where = plan.sweep.where(*place, i)
            if gate.floor is not None and gate.floor > low:
                yield LintFinding.error(
                    "floor_inside_band",
                    where,
                    f"the floor {percent(gate.floor)} of epoch {gate.epoch} lies above "
                    f"the expected {percent(low)}-{percent(high)}'s lower end",
                    why="a run that goes as expected is stopped",
                    instead=f"a floor of at most {low:g}",
                )
            if gate.target is not None and low < gate.target <= high:
                yield LintFinding.note(
                    "target_inside_band",
                    where,
                    f"the target {percent(gate.target)} of epoch {gate.epoch} lies inside "
                    f"the expected {percent(low)}-{percent(high)}",
                    why="a run can be as expected and below its target at once",
                    resolved="in the band but below the target is watched, never more",
                )


def table_against_schedule(plan: LintContext) -> Iterator[LintFinding]:
    """The plan's lr column is not what its schedule gives."""
    for variant, place in plan.own("bands"):
        true_lr = plan.true_lr.get(variant.name)
        if not true_lr:
            continue
        different = table_differences(variant.bands, true_lr)
        if not different:
            continue
        shown = ", ".join(f"epoch {d.epoch}: {d.shown:g} / {d.true:.3g}" for d in different)
        yield LintFinding.note(
            "table_lr_differs",
            plan.sweep.where(*place),
            f"the lr in the table is not the schedule's at {counted(len(different), 'epoch')} "
            f"(table / true: {shown})",
            why="a healthy run would look wrong beside the table",
            instead="nothing, or the true values",
            resolved="a logged lr is held against the true schedule, never against the table",
        )


def rate_rising_at_the_end(plan: LintContext) -> Iterator[LintFinding]:
    """A schedule is shorter than its training: a cosine whose T_max has passed goes up again."""
    for variant in plan.sweep.variants.values():
        rates = list(plan.true_lr.get(variant.name, ()))
        if len(rates) < _SHORTEST:
            continue
        highest = max(rates)
        lowest = min(rates[rates.index(highest) :])
        # Restarts fall at the end, and a warm-up has its highest rate there.
        if rates[-1] <= rates[-2] or lowest > _FALLEN * highest or rates[-1] < lowest / _FALLEN:
            continue
        turn = len(rates) - rates[::-1].index(lowest)
        yield LintFinding.warning(
            "lr_rises_at_the_end",
            plan.sweep.where("variants", variant.name),
            f"the lr of {variant.name} is lowest in epoch {turn} ({lowest:.3g}) and rises again "
            f"to {rates[-1]:.3g} in its last, epoch {len(rates)}",
            why="what was learned at low rates is trained away",
            instead="param_scheduler with T_max and end that fit train_cfg.max_epochs",
        )


def fallback_at_the_blamed_rate(plan: LintContext) -> Iterator[LintFinding]:
    """A fallback trains at the rate at which a variant that is out of the ladder started."""
    fallbacks = {name for rule in plan.sweep.ladder.after for name in rule.next}
    for blamed in plan.sweep.variants.values():
        start = _warm_up_start(blamed)
        if blamed.in_ladder or start is None:
            continue
        for name in sorted(fallbacks):
            rate = plan.sweep.variants[name].set.get(_LR)
            warm = _warm_up_start(plan.sweep.variants[name]) is not None
            if warm or not isinstance(rate, float) or abs(rate - start) > 1e-9:
                continue
            yield LintFinding.note(
                "fallback_at_the_blamed_rate",
                plan.sweep.where("variants", name),
                f"{name} trains at {rate:g}, the rate at which {blamed.name}, which is "
                "kept out of the ladder, begins its warm-up",
                why="if that rate was too small there, it reads as too small here",
                resolved="a rate is never blamed for its value alone: there it was small beside "
                "the run's own later rate, here it is the plan's choice for weights that bear no "
                "more",
            )


def _warm_up_start(variant: Variant) -> float | None:
    """Return the rate at which a variant's own warm-up begins, None without one."""
    rate, stack = variant.set.get(_LR), variant.set.get("param_scheduler")
    if not isinstance(rate, float) or not isinstance(stack, list):
        return None
    for item in stack:
        if isinstance(item, dict) and item.get("type") == "LinearLR" and not item.get("begin"):
            factor = item.get("start_factor", 1 / 3)
            return rate * factor if isinstance(factor, int | float) and factor < 1 else None
    return None


CHECKS: tuple[Check, ...] = (
    gate_inside_band,
    table_against_schedule,
    rate_rising_at_the_end,
    fallback_at_the_blamed_rate,
)
