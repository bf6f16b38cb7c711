"""Set up a search: around which variant, with how many trials, and what is known already."""

import dataclasses
from collections.abc import Mapping, Sequence

from pipeline.errors import InputError
from pipeline.job.resolve import ResolvedConfig
from pipeline.launch.budget import Budget
from pipeline.launch.context import LaunchContext, SearchOrder
from pipeline.launch.reporters import Reporter
from pipeline.launch.search_rule import rule_of
from pipeline.plan.recipe import config_differences, recipe_values
from pipeline.plan.search.rules import SyncHalving
from pipeline.plan.search.space import rates_of
from pipeline.plan.sweep import Sweep
from pipeline.shared.counted import counted
from pipeline.shared.states import Kind, State
from pipeline.study.import_trials import PriorTrial, import_prior, outside_space
from pipeline.study.searches import search_trials
from pipeline.study.trial_rows import TrialRow, epoch_hours, hours_so_far, recipe_row
from pipeline.study.yardstick import ranked_groups

#: More than any search runs; its hours end it.
UNLIMITED = 10_000


def choose_variant(sweep: Sweep, rows: Sequence[TrialRow], named: str | None) -> str:
    """Return the variant to search around: as named, as begun, as configured, or the best.

    Raises:
        InputError: there is none with a `space`.
    """
    able = [name for name, variant in sweep.variants.items() if variant.space]
    if not able:
        raise InputError(
            f"{sweep.shown_path} has no variant with a `space`, so there is nothing to search. "
            "Name the values to search under a variant (docs/search.md)."
        )
    if named is not None and named not in able:
        problem = "has no `space`" if named in sweep.variants else "is not a variant"
        raise InputError(
            f'"{named}" {problem} in {sweep.shown_path}; to search: {", ".join(able)}.'
        )
    begun = [row.variant for row in rows if row.kind is Kind.SEARCH and row.variant in able]
    recipes = [
        r for r in rows if r.recipe_hash and r.state == State.COMPLETE and r.variant in able
    ]
    alike = next(iter(ranked_groups(sweep, recipes)), [])
    best = max(alike, key=lambda row: row.best_top1 or 0.0, default=None)
    start = sweep.ladder.start
    fallback = start if start in able else able[0]
    chosen = named or (begun[-1] if begun else None) or sweep.search.around
    return chosen or (best.variant if best is not None else fallback)


def make_order(
    sweep: Sweep, variant: str, trials: int | None, gpu_hours: float | None
) -> SearchOrder:
    """Return the order as it was given; hours without a number of trials have no limit yet.

    Raises:
        InputError: neither the command nor the file says how much.
    """
    if trials is None and gpu_hours is None:
        trials = sweep.search.trials
    if trials is None and gpu_hours is None:
        raise InputError(
            f"How much is to be searched? Give --trials N or --gpu-hours H, or write search: "
            f"{{trials: N}} in {sweep.shown_path}."
        )
    return SearchOrder(variant=variant, trials=trials or UNLIMITED, gpu_hours=gpu_hours)


def start_search(
    context: LaunchContext, budget: Budget, reporter: Reporter
) -> tuple[LaunchContext, Budget]:
    """Add what is known to the study, settle how much is to be run, and report both.

    Returns:
        The context with the settled order, and the budget with what the search spent before.
    """
    order, rows = context.order.search, context.rows()
    assert order is not None
    for line in add_prior_trials(context, order.variant, rows):
        reporter.on_message(line)
    order = dataclasses.replace(order, trials=settle_trials(context, order, rows))
    trials = search_trials(rows, order.variant)
    rule = rule_of(context, order.variant, rows)
    much = counted(order.trials, "trial") if order.trials != UNLIMITED else "as many trials as fit"
    within = f" within {order.gpu_hours:g} GPU hours" if order.gpu_hours is not None else ""
    checks = ", ".join(str(check) for check in rule.checks)
    how = f"{rule.name}, checked after epoch {checks}" if checks else "no stopping rule"
    so_far = f"; {len(trials)} of them begun before" if trials else ""
    reporter.on_message(f"Searching around {order.variant}: {much}{within} ({how}){so_far}.")
    spent = hours_so_far(context.sweep, trials)
    budget = Budget(budget.max_hours, order.gpu_hours, before=spent, whose="search")
    settled = dataclasses.replace(context.order, search=order)
    return dataclasses.replace(context, order=settled), budget


def max_parallel(context: LaunchContext, most: int) -> int:
    """Return how many jobs may run at once: as many as whole trials fit into a search's hours."""
    order, rows = context.order.search, context.rows()
    if order is None or order.gpu_hours is None:
        return most
    hours, _ = epoch_hours(context.sweep, rows)
    epochs = context.resolution.configs[order.variant].facts.get("max_epochs")
    if not hours or not epochs:
        return most
    left = order.gpu_hours - hours_so_far(context.sweep, search_trials(rows, order.variant))
    return max(1, min(most, int(left / (hours * int(epochs)))))


def settle_trials(context: LaunchContext, order: SearchOrder, rows: Sequence[TrialRow]) -> int:
    """Return how many trials the search has: of a ladder, as many as its hours pay for.

    A ladder halves a number that has to be known before its first check.

    Raises:
        InputError: it is not known how long an epoch takes.
    """
    rule = rule_of(context, order.variant, rows)
    if order.trials != UNLIMITED or order.gpu_hours is None or not isinstance(rule, SyncHalving):
        return order.trials
    hours, _ = epoch_hours(context.sweep, rows)
    if hours is None:
        raise InputError(
            "A ladder within GPU hours needs to know how long an epoch takes. Run a recipe of "
            "the plan first, or set job.epoch_minutes, or give --trials N."
        )
    count = rule.least
    while rule.most_epochs(count + 1) * hours <= order.gpu_hours:
        count += 1
    return max(count, len(search_trials(rows, order.variant)))


def add_prior_trials(context: LaunchContext, variant: str, rows: Sequence[TrialRow]) -> list[str]:
    """Add the plan's finished recipes to the study that is searched.

    Returns:
        A line on what was added, and one on each that could not be.
    """
    known, lines = [], []
    recipes = context.recipes(rows)
    for name in context.sweep.variants:
        row = recipe_row(rows, name, recipes.get(name, ""))
        if name == variant or row is None or row.state not in (State.COMPLETE, State.PRUNED):
            continue
        if name in context.sweep.makers or row.best_top1 is None:
            continue
        values, why = as_search_point(context.sweep, context.resolution.configs, variant, name)
        if why is None:
            known.append(PriorTrial(row=row, values=values))
        else:
            lines.append(f"{row.name} is not known to the search: {why}.")
    added = import_prior(context.sweep, context.study_storage, variant, known)
    if added:
        lines.insert(0, f"Known from the plan: {', '.join(added)}.")
    return lines


def as_search_point(
    sweep: Sweep, configs: Mapping[str, ResolvedConfig], variant: str, other: str
) -> tuple[dict[str, object], str | None]:
    """Return another recipe's values in a variant's space, and why it has none there."""
    own = sweep.variants[variant]
    if own.config != sweep.variants[other].config:
        return {}, f"{other} has another base config than {variant}"
    if own.warm_start != sweep.variants[other].warm_start:
        return {}, f"{other} starts from other weights than {variant}"
    values = recipe_values(own)
    rates = rates_of(configs[variant].facts.get("param_scheduler"))
    for change in config_differences(configs[variant].changes, configs[other].changes):
        if change.path in own.space:
            values[change.path] = change.new
        elif change.path not in rates:
            return {}, f"{other} also changes {change.path}, which is not searched"
    return values, outside_space(sweep, variant, values)
