"""What a launcher wants to run, and which rows of the trials' table that is."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.plan.sweep import Sweep
from pipeline.study.sampler import SamplerOptions
from pipeline.study.tables import optuna_trials, trials


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimRequest:
    """A variant to run trials of, and how many its study may have.

    Args:
        confirms: run the repetitions of these trials on other seeds, and nothing else.
        search: run trials of a search, and nothing else; without it, anything but those.
    """

    variant: str
    trials: int
    recipe_hash: str
    confirms: tuple[str, ...] = ()
    search: SamplerOptions | None = None

    def has(self, confirms: str | None) -> bool:
        """Whether a trial is of the wanted kind, by the trial it confirms."""
        return confirms in self.confirms if self.confirms else not confirms


def group_requests(sweep: Sweep, wanted: Sequence[ClaimRequest]) -> list[list[ClaimRequest]]:
    """Return the variants in order, those side by side that one query can look through.

    One with a space comes alone, since drawing from it comes before the next variant.
    """
    groups: list[list[ClaimRequest]] = []
    for want in wanted:
        alone = bool(sweep.variants[want.variant].space)
        if alone or not groups or sweep.variants[groups[-1][0].variant].space:
            groups.append([want])
        else:
            groups[-1].append(want)
    return groups


def kind_filter(wanted: Sequence[ClaimRequest]) -> sa.ColumnElement[bool]:
    """Repetitions of the named trials where those are wanted, else a search's or the plan's."""
    confirms = trials.c.facts["confirms"].as_string()
    names = {name for want in wanted for name in want.confirms}
    if names:
        repetitions: sa.ColumnElement[bool] = confirms.in_(names)
        return repetitions
    search = trials.c.facts["search"].as_string()
    searching = any(want.search is not None for want in wanted)
    kind = search.is_not(None) if searching else search.is_(None)
    found: sa.ColumnElement[bool] = confirms.is_(None) & kind
    return found


def resumable_filter(wanted: Sequence[ClaimRequest]) -> sa.ColumnElement[bool]:
    """Paused trials that may go on."""
    ids = [i for want in wanted if want.search is not None for i in want.search.going_on]
    return trials.c.trial_id.in_(ids)


def wanted_rows(
    sweep: Sweep, wanted: Sequence[ClaimRequest], columns: Sequence[sa.ColumnElement[Any]]
) -> "sa.Select[Any]":
    names = [want.variant for want in wanted]
    return (
        sa.select(*columns)
        .join_from(trials, optuna_trials, trials.c.trial_id == optuna_trials.c.trial_id)
        .where((trials.c.sweep == sweep.name) & trials.c.variant.in_(names))
        .order_by(trials.c.number)
    )
