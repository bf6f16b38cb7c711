"""Which stopping rule a search's trials have, and after which epochs their jobs read averages."""

from collections.abc import Sequence

from pipeline.launch.context import LaunchContext
from pipeline.launch.trial_lease import TrialLease
from pipeline.plan.search.rules import AsyncHalving, make_rule
from pipeline.plan.sweep import Search
from pipeline.shared.states import Kind
from pipeline.study.searches import as_begun, as_first_begun, search_trials
from pipeline.study.trial_rows import TrialRow


def rule_of(context: LaunchContext, variant: str, rows: Sequence[TrialRow]) -> AsyncHalving:
    """Return the stopping rule of a variant's search.

    Args:
        rows: the sweep's trials.
    """
    return _rule(context, variant, as_first_begun(context.sweep.search, rows, variant))


def rule_of_trial(context: LaunchContext, lease: TrialLease) -> AsyncHalving:
    """Return the stopping rule that a claimed trial of a search was drawn under."""
    search = as_begun(context.sweep.search, lease.facts)
    return _rule(context, lease.variant, search)


def averaged_checks(context: LaunchContext, lease: TrialLease) -> tuple[int, ...]:
    """Return the epochs after which a trial's job reads its averaged weights.

    Nowhere, if no trial of the search can be stopped: a reading only ranks.
    """
    if not lease.facts.get("search"):
        return ()
    rule, rows = rule_of_trial(context, lease), context.rows()
    begun, order = search_trials(rows, lease.variant), context.order.search
    most = max(len(begun), order.trials if order is not None else 0)
    known = [
        row for row in rows if row.variant == lease.variant and row.epoch and row not in begun
    ]
    compared = most + sum(row.kind is not Kind.REPEAT for row in known)
    return rule.checks if rule.averaged and rule.may_stop(compared) else ()


def _rule(context: LaunchContext, variant: str, search: Search) -> AsyncHalving:
    epochs = context.resolution.configs[variant].facts.get("max_epochs")
    return make_rule(search, int(epochs or 0))
