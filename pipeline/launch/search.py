"""What a search runs next: new trials, paused ones that may resume, and those to be pruned.

Everything follows from the storage: how far each trial is, which are paused, what was spent. So a
search that was killed at any point goes on with the same command.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline.errors import StorageError
from pipeline.job.exit_cause import Outcome
from pipeline.launch.context import LaunchContext, Schedule, SearchOrder
from pipeline.launch.control_files import overruled
from pipeline.launch.resume_checkpoint import newest_checkpoint
from pipeline.launch.search_rule import rule_of, rule_of_trial
from pipeline.launch.trial_lease import TrialLease
from pipeline.plan.recipe import recipe_values
from pipeline.plan.search.rules import RULES, Rung
from pipeline.plan.search.rung_judge import RungRules
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.counted import counted
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause, Phase, State
from pipeline.study.claim import ClaimRequest
from pipeline.study.sampler import SamplerOptions
from pipeline.study.searches import as_first_begun, search_trials
from pipeline.study.trial_curves import read_standings
from pipeline.study.trial_rows import TrialRow, hours_so_far, recipe_row

_CHECK = re.compile(rf"epoch (\d+) ({'|'.join(RULES)})")


def next_search(context: LaunchContext, order: SearchOrder, rows: Sequence[TrialRow]) -> Schedule:
    """Return what a search wants now."""
    trials = search_trials(rows, order.variant)
    spent = hours_so_far(context.sweep, trials)
    if order.gpu_hours is not None and spent >= order.gpu_hours:
        why = f"The search's {order.gpu_hours:g} GPU hours are used up ({_by_state(trials)})"
        return Schedule(requests=(), why=why)
    resumable, beaten = _sort_paused(context, order, trials)
    request = ClaimRequest(
        variant=order.variant,
        trials=order.trials,
        recipe_hash=context.recipes(rows)[order.variant],
        search=SamplerOptions(
            seed=context.sweep.search.seed,
            settings=as_first_begun(context.sweep.search, rows, order.variant),
            first=None if trials else _unrun_recipe(context, order.variant, rows),
            going_on=resumable,
        ),
    )
    unfinished = [row for row in trials if not row.finished]
    why = f"The search has run its {_by_state(trials)}"
    if unfinished:
        why = f"{counted(len(unfinished), 'trial')} of the search not finished"
    return Schedule(requests=(request,), why=why, to_prune=beaten)


def _sort_paused(
    context: LaunchContext, order: SearchOrder, trials: Sequence[TrialRow]
) -> tuple[frozenset[int], tuple[TrialRow, ...]]:
    """Return the ids of paused trials that may resume, and the paused trials to be pruned."""
    paused = [row for row in trials if row.phase == Phase.PAUSED and not row.finished]
    if not paused:
        return frozenset(), ()
    rule = rule_of(context, order.variant, trials)
    standings = read_standings(context.sweep, order.variant, rule, context.study_storage)
    undrawn = max(0, order.trials - len(trials))
    resumable, beaten = set(), []
    for row in paused:
        check = rule.due(row.epoch)
        field = rule.field(standings, check, undrawn) if check is not None else Rung({})
        if check is None or row.number not in field.readings:
            resumable.add(row.trial_id)
            continue
        kind = rule.decide(check, row.number, field).kind
        if kind is VerdictKind.GO:
            resumable.add(row.trial_id)
        elif kind is VerdictKind.PRUNE:
            beaten.append(row)
    return frozenset(resumable), tuple(beaten)


def _unrun_recipe(
    context: LaunchContext, variant: str, rows: Sequence[TrialRow]
) -> Mapping[str, Any] | None:
    """Return the recipe's values for the first trial, None where the plan has run the recipe."""
    row = recipe_row(rows, variant, context.recipes(rows)[variant])
    if row is not None and row.attempt > 0:
        return None
    return recipe_values(context.sweep.variants[variant]) or None


def _by_state(trials: Sequence[TrialRow]) -> str:
    """Return how many trials there are, and how many of each final state."""
    states = [row.state for row in trials if row.finished]
    counts = ", ".join(
        f"{states.count(state)} {state.lower()}"
        for state in (State.COMPLETE, State.PRUNED, State.FAIL)
        if state in states
    )
    return counted(len(trials), "trial") + (f": {counts}" if counts else "")


def rung_rules_for(context: LaunchContext, lease: TrialLease, rundir: RunDir) -> RungRules:
    """Return what a trial of a search is judged by beyond the plan's rules."""
    rule = rule_of_trial(context, lease)
    number = int(lease.number)

    def field(check: int) -> Rung | None:
        try:
            rows = context.rows()
            standings = read_standings(context.sweep, lease.variant, rule, context.study_storage)
        except StorageError:
            return None
        others = [one for one in standings if one.number != number]
        order = context.order.search
        undrawn = order.trials - len(search_trials(rows, lease.variant)) if order else 0
        return rule.field(others, check, max(0, undrawn))

    return RungRules(rule=rule, number=number, field=field, passed=_passed(rundir))


def _passed(rundir: RunDir) -> frozenset[int]:
    """Return the checks that a trial has passed, by the rule or by an overruled verdict."""
    names = [str(rule) for _, rule in overruled(rundir)]
    for record in rundir.read_verdicts():
        if record.get("verdict") == VerdictKind.GO:
            names.append(str(record.get("rule")))
    matches = (_CHECK.fullmatch(name) for name in names)
    return frozenset(int(match.group(1)) for match in matches if match)


def other_launches_gpu_hours(context: LaunchContext, running: Collection[int]) -> float | None:
    """Return the GPU hours of a search but for running jobs of this launch; None if unlimited.

    Args:
        running: ids of the trials that this launch runs.
    """
    order = context.order.search
    if order is None or order.gpu_hours is None:
        return None
    rows = search_trials(context.rows(), order.variant)
    return hours_so_far(context.sweep, rows, without=running)


def lost_checkpoint(lease: TrialLease, rundir: RunDir) -> Outcome | None:
    """Return how a trial of a search ends whose checkpoint was deleted between two attempts.

    A recipe of the plan in that state needs a person's attention; of a search it is one of many.
    """
    epoch = lease.previous.get("epoch") or 0
    if not lease.facts.get("search") or not epoch or newest_checkpoint(rundir) is not None:
        return None
    paused = lease.previous.get("phase") == Phase.PAUSED
    phase = Phase.PAUSED if paused else Phase.INTERRUPTED
    reason = f"its checkpoint of epoch {epoch} was lost while it was {phase}"
    return Outcome(state=State.FAIL, cause=Cause.LOST_CHECKPOINT, reason=reason)
