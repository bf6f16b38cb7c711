"""What to run next: the ladder, all variants, or those that were named."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from pipeline.errors import InputError
from pipeline.plan.ladder import LadderState, walk
from pipeline.plan.sweep import Sweep
from pipeline.shared.states import Kind
from pipeline.study.claim_request import ClaimRequest
from pipeline.study.trial_rows import TrialRow, ended_recipes, recipe_row


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOrder:
    """What a search was asked for.

    Args:
        variant: whose space is searched.
        trials: how many the search has in all, those of earlier commands too.
        gpu_hours: what it may spend in all.
    """

    variant: str
    trials: int
    gpu_hours: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOrder:
    """What a launch was asked to run.

    Args:
        policy: "ladder" or "all"; ignored where variants are named.
        variants: named variants, in order.
        trials: trials per study; 1 is the recipe alone.
        confirms: trials whose repetitions on other seeds are run, and nothing else.
        search: search instead of the plan; everything else is ignored.
    """

    policy: str = "ladder"
    variants: tuple[str, ...] = ()
    trials: int = 1
    confirms: tuple[str, ...] = ()
    search: SearchOrder | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """The trials wanted now, and why nothing more is wanted once they are done.

    `beaten` are paused trials of a search that are to be ended.
    """

    wanted: tuple[ClaimRequest, ...]
    why: str = ""
    step: LadderState | None = None
    beaten: tuple[TrialRow, ...] = ()


def check_order(sweep: Sweep, order: RunOrder) -> None:
    """Refuse an order that names variants the sweep lacks.

    Raises:
        InputError: with the names there are.
    """
    for name in order.variants:
        if name not in sweep.variants:
            known = ", ".join(sweep.variants)
            raise InputError(f'{sweep.shown_path} has no variant "{name}"; it has: {known}.')


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
        present: checkpoints that are there already; nobody has to make those.
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
        hashes: digest of each variant's present recipe.
        present: starting checkpoints that are there.
    """
    step = None
    if order.confirms:
        chosen, why = confirmed_variants(order), "the repetitions on other seeds are done"
    elif order.variants:
        chosen, why = list(order.variants), "the named variants are done"
    elif order.policy == "all":
        chosen, why = all_variants(sweep), "all variants are done"
    else:
        step = walk(sweep, ended_recipes(sweep, rows, hashes))
        chosen, why = list(step.path), step.why
    makers = prerequisites(sweep, chosen, rows, hashes, present)
    if makers is not None:
        return dataclasses.replace(makers, step=step)
    wanted = tuple(_wanted(name, order.trials, hashes, order.confirms) for name in chosen)
    return Schedule(wanted=wanted, why=why, step=step)


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
    failed = next((n for n in unmade if _ended(rows, n, hashes)), None)
    if failed is not None:
        why = f"{failed}, which makes the starting weights, did not complete"
        return Schedule(wanted=(), why=why)
    return Schedule(wanted=tuple(_wanted(n, 1, hashes) for n in unmade))


def claimable(
    sweep: Sweep, plan: Schedule, rows: Sequence[TrialRow], skip: Collection[int]
) -> bool:
    """Whether a wanted trial is likely to be had; for less, no GPU has to be looked at.

    Args:
        skip: ids of trials that this launch has given back.
    """
    for want in plan.wanted:
        mine = _seen_by(want, rows)
        short = sum(r.is_regular for r in mine) < want.trials and not want.confirms
        if short and sweep.variants[want.variant].space:
            return True
        if any(_may_run(r, want) and r.trial_id not in skip for r in mine):
            return True
    return False


def count_unclaimed(sweep: Sweep, plan: Schedule, rows: Sequence[TrialRow]) -> int:
    """Return how many wanted trials nobody runs: waiting, interrupted, or still to be drawn."""
    count = 0
    for want in plan.wanted:
        mine = _seen_by(want, rows)
        left = [r for r in mine if _may_run(r, want)]
        count += sum(r.attempt > 0 or r.recipe_hash in (None, want.recipe_hash) for r in left)
        if sweep.variants[want.variant].space and not want.confirms:
            count += max(0, want.trials - sum(r.is_regular for r in mine))
    return count


def running(plan: Schedule, rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the wanted trials that somebody runs."""
    mine = [row for want in plan.wanted for row in _seen_by(want, rows)]
    return [row for row in mine if row.phase == "running"]


def _seen_by(want: ClaimRequest, rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return a variant's trials as a search, or a launch, counts them: each only its own."""
    mine = [r for r in rows if r.variant == want.variant and not r.superseded]
    mine = [r for r in mine if want.has(r.confirms)]
    if want.confirms:
        return mine
    return [r for r in mine if (r.kind is Kind.SEARCH) == (want.search is not None)]


def _may_run(row: TrialRow, want: ClaimRequest) -> bool:
    """Whether nobody runs a trial and it need not wait."""
    if row.phase == "paused":
        return want.search is not None and row.trial_id in want.search.going_on
    return row.phase not in ("done", "running")


def _wanted(
    name: str, trials: int, hashes: Mapping[str, str], confirms: tuple[str, ...] = ()
) -> ClaimRequest:
    return ClaimRequest(variant=name, trials=trials, recipe_hash=hashes[name], confirms=confirms)


def _complete(rows: Sequence[TrialRow], variant: str, hashes: Mapping[str, str]) -> bool:
    row = recipe_row(rows, variant, hashes[variant])
    return row is not None and row.state == "COMPLETE"


def _ended(rows: Sequence[TrialRow], variant: str, hashes: Mapping[str, str]) -> bool:
    row = recipe_row(rows, variant, hashes[variant])
    return row is not None and row.finished
