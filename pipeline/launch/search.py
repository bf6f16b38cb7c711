"""What a search runs next: new trials, paused ones that may go on, and those that are beaten.

Everything follows from the storage: how far each trial is, who is paused, what was spent. So a
search that was killed at any point goes on with the same command.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import StorageError
from pipeline.job.exit_cause import Outcome
from pipeline.launch.control_files import ControlFiles
from pipeline.launch.overruled import overruled
from pipeline.launch.scheduler import Schedule, SearchOrder
from pipeline.launch.trial_lease import Held
from pipeline.launch.workdir import newest_checkpoint, run_dir
from pipeline.plan.judge import judge
from pipeline.plan.recipe import recipe_values
from pipeline.plan.search.rules import RULES, AsyncHalving, Rung, make_rule
from pipeline.plan.search.rung_judge import RungRules
from pipeline.plan.search.space import moved_with_lr
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Kind
from pipeline.study.claim import claim_to_prune
from pipeline.study.claim_request import ClaimRequest
from pipeline.study.gpu_hours import hours_so_far
from pipeline.study.rungs import read_standings
from pipeline.study.sampler import SamplerOptions as Drawing
from pipeline.study.trial_rows import TrialRow, recipe_row

if TYPE_CHECKING:
    from pipeline.launch.context import LaunchContext

_CHECK = re.compile(rf"epoch (\d+) ({'|'.join(RULES)})")


def trials_of(rows: Sequence[TrialRow], variant: str) -> list[TrialRow]:
    """Return a variant's trials that belong to its search."""
    return [row for row in rows if row.variant == variant and row.kind is Kind.SEARCH]


def rule_of(context: "LaunchContext", variant: str) -> AsyncHalving:
    """Return the stopping rule for trials of a variant."""
    epochs = context.resolution.configs[variant].facts.get("max_epochs")
    return make_rule(context.sweep.search, int(epochs or 0))


def next_search(
    context: "LaunchContext", order: SearchOrder, rows: Sequence[TrialRow]
) -> Schedule:
    """Return what a search wants now."""
    mine = trials_of(rows, order.variant)
    spent = hours_so_far(context.sweep, mine)
    if order.gpu_hours is not None and spent >= order.gpu_hours:
        why = f"the search's {order.gpu_hours:g} GPU hours are used up ({_counted(mine)})"
        return Schedule(wanted=(), why=why)
    going_on, beaten = _paused(context, order, mine)
    want = ClaimRequest(
        variant=order.variant,
        trials=order.trials,
        recipe_hash=context.hashes[order.variant],
        search=Drawing(
            seed=context.sweep.search.seed,
            first=None if mine else _unrun_recipe(context, order.variant, rows),
            going_on=going_on,
        ),
    )
    left = [row for row in mine if not row.finished]
    why = f"the search has run its {_counted(mine)}"
    if left:
        why = f"{counted(len(left))} of the search not finished"
    return Schedule(wanted=(want,), why=why, beaten=beaten)


def _paused(
    context: "LaunchContext", order: SearchOrder, mine: Sequence[TrialRow]
) -> tuple[frozenset[int], tuple[TrialRow, ...]]:
    """Sort the paused trials: ids of those that may go on, and those that are beaten."""
    paused = [row for row in mine if row.phase == "paused" and not row.finished]
    if not paused:
        return frozenset(), ()
    rule = rule_of(context, order.variant)
    standings = read_standings(context.sweep, order.variant, rule, context.study_storage)
    undrawn = max(0, order.trials - len(mine))
    going_on, beaten = set(), []
    for row in paused:
        check = rule.due(row.epoch)
        field = rule.field(standings, check, undrawn) if check is not None else Rung({})
        if check is None or row.number not in field.bests:
            going_on.add(row.trial_id)
            continue
        kind = rule.decide(check, row.number, field).kind
        if kind is VerdictKind.GO:
            going_on.add(row.trial_id)
        elif kind is VerdictKind.PRUNE:
            beaten.append(row)
    return frozenset(going_on), tuple(beaten)


def _unrun_recipe(
    context: "LaunchContext", variant: str, rows: Sequence[TrialRow]
) -> Mapping[str, Any] | None:
    """Return the recipe's values for the first trial, None where the plan has run the recipe."""
    row = recipe_row(rows, variant, context.hashes[variant])
    if row is not None and row.attempt > 0:
        return None
    values = recipe_values(context.sweep.variants[variant])
    return values or None


def _counted(mine: Sequence[TrialRow]) -> str:
    states = [row.state.lower() for row in mine if row.finished]
    told = ", ".join(
        f"{states.count(s)} {s}" for s in ("complete", "pruned", "fail") if s in states
    )
    return counted(len(mine)) + (f": {told}" if told else "")


def counted(number: int) -> str:
    """Return a number of trials in words."""
    return f"{number} trial{'s' if number != 1 else ''}"


def rung_rules_for(context: "LaunchContext", lease: Held, rundir: RunDir) -> RungRules:
    """Return what a trial of a search is judged by beyond the plan's rules."""
    rule = rule_of(context, lease.variant)
    number = int(lease.number)

    def field(check: int) -> Rung | None:
        try:
            rows = context.rows()
            found = read_standings(context.sweep, lease.variant, rule, context.study_storage)
        except StorageError:
            return None
        others = [one for one in found if one.number != number]
        order = context.order.search
        undrawn = order.trials - len(trials_of(rows, lease.variant)) if order else 0
        return rule.field(others, check, max(0, undrawn))

    return RungRules(rule=rule, number=number, field=field, passed=_passed(rundir))


def _passed(rundir: RunDir) -> frozenset[int]:
    """Return the checks that a trial was let through, by the rule or by a person."""
    names = [str(rule) for _, rule in overruled(rundir)]
    for record in rundir.read_verdicts():
        if record.get("verdict") == VerdictKind.GO.value:
            names.append(str(record.get("rule")))
    matches = (_CHECK.fullmatch(name) for name in names)
    return frozenset(int(match.group(1)) for match in matches if match)


def other_launches_gpu_hours(context: "LaunchContext", mine: Collection[int]) -> float | None:
    """Return the GPU hours of a search but for running jobs of this launch; None if unlimited.

    Args:
        mine: ids of the trials that this launch runs.
    """
    order = context.order.search
    if order is None or order.gpu_hours is None:
        return None
    rows = trials_of(context.rows(), order.variant)
    return hours_so_far(context.sweep, rows, without=mine)


def prune_paused(
    context: "LaunchContext", beaten: Sequence[TrialRow], say: Callable[[str], None]
) -> None:
    """End paused trials that are not among those that go on."""
    for row in beaten:
        lease = claim_to_prune(context.sweep, context.study_storage, row.trial_id)
        if lease is None:
            continue
        rundir = run_dir(context.project, context.sweep.name, row.variant, row.number)
        history = rundir.read_measurements()
        verdict = judge(history, context.rules(lease, rundir)) if history else None
        if verdict is not None and verdict.kind is not VerdictKind.PRUNE:
            lease.release("paused", cause="paused", reason=verdict.reason, seconds=0)
            continue
        reason = verdict.reason if verdict is not None else "its run directory is gone"
        outcome = Outcome(state="PRUNED", cause=context.sweep.search.rule, reason=reason)
        records = [*row.verdicts, *([verdict.record()] if verdict is not None else [])]
        notes = ControlFiles(rundir, row.name, say)
        if verdict is not None:
            notes.verdict(verdict.record())
            notes.outcome(outcome, history)
        lease.tell(
            "PRUNED", history, cause=outcome.cause, reason=reason, verdicts=records, seconds=0
        )
        say(f"{row.name} pruned: {reason}.")


def lost_checkpoint(lease: Held, rundir: RunDir) -> Outcome | None:
    """Return how a trial of a search ends whose checkpoint was deleted while nobody ran it.

    A plan's recipe in that state is worth a person's attention; of a search it is one of many.
    """
    facts, epoch = lease.previous.get("facts") or {}, lease.previous.get("epoch") or 0
    if not facts.get("search") or not epoch or newest_checkpoint(rundir) is not None:
        return None
    reason = f"its checkpoint of epoch {epoch} was lost while it was {_resting(lease)}"
    return Outcome(state="FAIL", cause="lost_checkpoint", reason=reason)


def _resting(lease: Held) -> str:
    return "paused" if lease.previous.get("phase") == "paused" else "interrupted"


def coupled_rates(
    context: "LaunchContext", variant: str, values: Mapping[str, Any]
) -> dict[str, float]:
    """Return the scheduler's rates that move with a drawn lr, by config path."""
    if not context.sweep.search.couple:
        return {}
    facts = context.resolution.configs[variant].facts
    return moved_with_lr(facts.get("param_scheduler"), facts.get("lr"), values)
