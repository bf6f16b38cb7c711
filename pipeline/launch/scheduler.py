"""What to run next: the ladder, all variants, those that were named, or a search."""

import dataclasses
import difflib
from collections.abc import Collection, Mapping, Sequence

from pipeline.errors import InputError
from pipeline.launch.context import LaunchContext, RunOrder, Schedule
from pipeline.launch.search import next_search
from pipeline.plan.ladder import failure_text, walk
from pipeline.plan.sweep import Sweep
from pipeline.shared.states import Kind, Phase, State
from pipeline.study.claim import ClaimRequest
from pipeline.study.stages import Stages
from pipeline.study.trial_rows import TrialRow, ended_recipes, recipe_row


def schedule(context: LaunchContext, rows: Sequence[TrialRow]) -> Schedule:
    """Return what a launch is to run now.

    Args:
        rows: the sweep's trials as the storage has them.
    """
    sweep, search = context.sweep, context.order.search
    files = {v.warm_start.checkpoint for v in sweep.variants.values() if v.warm_start}
    present = {f for f in files if f is not None and (context.project.root / f).is_file()}
    recipes = context.recipes(rows)
    if search is None:
        return next_trials(sweep, context.order, rows, recipes, present)
    waits = Stages(sweep, rows, context.resolution.hashes).waiting().get(search.variant)
    if waits is not None:
        return Schedule(requests=(), why=waits)
    makers = prerequisites(sweep, [search.variant], rows, recipes, present)
    return makers or next_search(context, search, rows)


def variant_after(context: LaunchContext, variant: str) -> str | None:
    """Return the variant that the ladder has reached after `variant` ended.

    Raises:
        StorageError: the storage cannot be read.
    """
    order = context.order
    if order.search is not None or order.variants or order.confirms or order.policy != "ladder":
        return None
    step = schedule(context, context.rows()).step
    if step is None or step.variant == variant:
        return None
    return step.variant


def check_order(sweep: Sweep, order: RunOrder) -> None:
    """Refuse an order that names variants the sweep lacks.

    Raises:
        InputError: with the names there are.
    """
    for name in order.variants:
        if name not in sweep.variants:
            known = ", ".join(sweep.variants)
            close = difflib.get_close_matches(name, list(sweep.variants), 1)
            meant = f' Did you mean "{close[0]}"?' if close else ""
            raise InputError(
                f'{sweep.shown_path} has no variant "{name}"; it has: {known}.{meant}'
            )


def all_variants(sweep: Sweep) -> list[str]:
    """Return the variants of `--policy all`: those of the ladder, not the makers of weights."""
    return [n for n, v in sweep.variants.items() if v.in_ladder and n not in sweep.makers]


def candidates(sweep: Sweep, order: RunOrder) -> list[str]:
    """Return every variant that this order may come to run, the makers of weights first."""
    if order.search is not None:
        chosen = [order.search.variant]
    elif order.variants or order.confirms:
        chosen = [*order.variants, *confirmed_variants(order)]
    elif order.policy == "all":
        chosen = all_variants(sweep)
    else:
        named = [name for rule in sweep.ladder.after for name in rule.next]
        chosen = list(dict.fromkeys([sweep.ladder.start, *named]))
    return [*weight_makers(sweep, chosen), *chosen]


def confirmed_variants(order: RunOrder) -> list[str]:
    """Return the variants of the trials that are repeated on other seeds."""
    return list(dict.fromkeys(name.rpartition("/")[0] for name in order.confirms))


def weight_makers(
    sweep: Sweep, variants: Sequence[str], present: Collection[str] = ()
) -> list[str]:
    """Return the variants that make the starting weights of these.

    Args:
        present: checkpoints that are there already and need not be made.
    """
    starts = [sweep.variants[name].warm_start for name in variants]
    made = [s.make for s in starts if s is not None and s.make and s.checkpoint not in present]
    return [name for name in dict.fromkeys(made) if name not in variants]


def next_trials(
    sweep: Sweep,
    order: RunOrder,
    rows: Sequence[TrialRow],
    hashes: Mapping[str, str],
    present: Collection[str] = (),
) -> Schedule:
    """Return what to run now, from how everything so far has ended.

    Args:
        hashes: digest of each variant's present recipe; a stage that waits has none.
        present: starting checkpoints that are there.
    """
    step = None
    if order.confirms:
        chosen, why = confirmed_variants(order), "The repetitions on other seeds are done"
    elif order.variants:
        chosen, why = list(order.variants), "The named variants are done"
    elif order.policy == "all":
        chosen, why = all_variants(sweep), "All variants are done"
    else:
        step = walk(sweep, ended_recipes(sweep, rows, hashes))
        chosen, why = list(step.path), step.why
    makers = prerequisites(sweep, chosen, rows, hashes, present)
    if makers is not None:
        return dataclasses.replace(makers, step=step)
    held = {} if order.confirms else _held_stages(sweep, order, chosen, rows, hashes)
    ready = [name for name in chosen if name not in held]
    wanted = tuple(_request(name, order.trials, hashes, order.confirms) for name in ready)
    failed = [] if order.confirms else failed_trials(wanted, rows)
    if held:
        why = ". ".join(held.values())
    elif why:
        ended = step.path[-1] if step is not None else None  # the ladder's own reason names it
        texts = [_failure(sweep, row) for row in failed if row.variant != ended]
        why = ". ".join([why, *texts])
    return Schedule(requests=wanted, why=why, step=step, failed=tuple(r.name for r in failed))


def _held_stages(
    sweep: Sweep,
    order: RunOrder,
    chosen: Sequence[str],
    rows: Sequence[TrialRow],
    hashes: Mapping[str, str],
) -> dict[str, str]:
    """Return the stages that cannot start yet, and why.

    One whose earlier stage is trained by this launch starts once that has all its trials, since
    the best of them is not known before.
    """
    waiting = Stages(sweep, rows, hashes, staged=True).waiting()
    held = {name: waiting[name] for name in chosen if name in waiting}
    for name in chosen:
        earlier = sweep.variants[name].starts_from
        if name in held or earlier not in chosen:
            continue
        before = _request(str(earlier), order.trials, hashes)
        if earlier in held or count_open(sweep, before, rows):
            held[name] = f"{name} waits for all trials of {earlier}"
    return held


def count_open(sweep: Sweep, request: ClaimRequest, rows: Sequence[TrialRow]) -> int:
    """Return how many trials of a request have not ended, those to be drawn among them."""
    trials = [r for r in _counted_by(request, rows) if r.is_regular]
    undrawn = request.trials - len(trials) if sweep.variants[request.variant].space else 0
    return sum(not r.finished for r in trials) + max(0, undrawn)


def failed_trials(requests: Sequence[ClaimRequest], rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the wanted trials that have failed and that no other has taken up since."""
    taken_up = {row.continues for row in rows}
    found = [row for request in requests for row in _counted_by(request, rows)]
    present = {request.variant: request.recipe_hash for request in requests}
    return [
        row
        for row in found
        if row.state == State.FAIL
        and row.is_regular
        and row.name not in taken_up
        and row.recipe_hash in (None, present[row.variant])
    ]


def _failure(sweep: Sweep, row: TrialRow) -> str:
    return failure_text(sweep.name, row.variant, row.name, row.cause)


def prerequisites(
    sweep: Sweep,
    chosen: Sequence[str],
    rows: Sequence[TrialRow],
    hashes: Mapping[str, str],
    present: Collection[str],
) -> Schedule | None:
    """Return what has to be run before the chosen variants have weights to start from."""
    makers = weight_makers(sweep, chosen, present)
    unmade = [name for name in makers if not _complete(rows, name, hashes)]
    if not unmade:
        return None
    ended = [recipe_row(rows, name, hashes[name]) for name in unmade]
    broken = next((row for row in ended if row is not None and row.finished), None)
    if broken is not None:
        why = f"{broken.variant}, which makes the starting weights, did not complete"
        if broken.state != State.FAIL:
            return Schedule(requests=(), why=why)
        why = f"{why}. {_failure(sweep, broken)}"
        return Schedule(requests=(), why=why, failed=(broken.name,))
    return Schedule(requests=tuple(_request(n, 1, hashes) for n in unmade))


def claimable(
    sweep: Sweep, wanted: Schedule, rows: Sequence[TrialRow], skip: Collection[int]
) -> bool:
    """Whether a wanted trial can probably be claimed; if not, no GPU has to be checked.

    Args:
        skip: ids of trials that this launch has given back.
    """
    for request in wanted.requests:
        trials = _counted_by(request, rows)
        short = sum(r.is_regular for r in trials) < request.trials and not request.confirms
        if short and sweep.variants[request.variant].space:
            return True
        if any(_may_run(r, request) and r.trial_id not in skip for r in trials):
            return True
    return False


def count_unclaimed(sweep: Sweep, wanted: Schedule, rows: Sequence[TrialRow]) -> int:
    """Return how many wanted trials no launch runs: waiting, interrupted, or to be drawn."""
    count = 0
    for request in wanted.requests:
        trials = _counted_by(request, rows)
        left = [r for r in trials if _may_run(r, request)]
        count += sum(r.attempt > 0 or r.recipe_hash in (None, request.recipe_hash) for r in left)
        if sweep.variants[request.variant].space and not request.confirms:
            count += max(0, request.trials - sum(r.is_regular for r in trials))
    return count


def running(wanted: Schedule, rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the wanted trials that a launch, this one or another, runs."""
    trials = [row for request in wanted.requests for row in _counted_by(request, rows)]
    return [row for row in trials if row.phase == Phase.RUNNING]


def _counted_by(request: ClaimRequest, rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return a variant's trials as a search, or a launch, counts them: each only its own."""
    trials = [r for r in rows if r.variant == request.variant and not r.superseded]
    trials = [r for r in trials if request.has(r.confirms)]
    if request.confirms:
        return trials
    return [r for r in trials if (r.kind is Kind.SEARCH) == (request.search is not None)]


def _may_run(row: TrialRow, request: ClaimRequest) -> bool:
    """Whether no launch runs a trial and it need not wait."""
    if row.phase == Phase.PAUSED:
        return request.search is not None and row.trial_id in request.search.going_on
    return row.phase not in (Phase.DONE, Phase.RUNNING)


def _request(
    name: str, trials: int, hashes: Mapping[str, str], confirms: tuple[str, ...] = ()
) -> ClaimRequest:
    recipe = hashes.get(name, "")  # a repetition runs the recipe of the trial it repeats
    return ClaimRequest(variant=name, trials=trials, recipe_hash=recipe, confirms=confirms)


def _complete(rows: Sequence[TrialRow], variant: str, hashes: Mapping[str, str]) -> bool:
    row = recipe_row(rows, variant, hashes[variant])
    return row is not None and row.state == State.COMPLETE
