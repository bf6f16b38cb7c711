"""Which trials a launcher asks for, and the rows of the trials' table that match."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.plan.sweep import Sweep
from pipeline.study.sampler import SamplerOptions
from pipeline.study.tables import joined_trials, trials


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
        """Return whether a trial is of the requested kind, by the trial it confirms."""
        return confirms in self.confirms if self.confirms else not confirms


def group_requests(sweep: Sweep, requests: Sequence[ClaimRequest]) -> list[list[ClaimRequest]]:
    """Return the variants in order, those side by side that one query can look through.

    One with a space comes alone, since drawing from it comes before the next variant.
    """
    groups: list[list[ClaimRequest]] = []
    for request in requests:
        alone = bool(sweep.variants[request.variant].space)
        if alone or not groups or sweep.variants[groups[-1][0].variant].space:
            groups.append([request])
        else:
            groups[-1].append(request)
    return groups


def kind_filter(requests: Sequence[ClaimRequest]) -> sa.ColumnElement[bool]:
    """Return the filter: repetitions of the named trials if any, else a search's or the plan's."""
    confirms = trials.c.facts["confirms"].as_string()
    names = {name for request in requests for name in request.confirms}
    if names:
        repetitions: sa.ColumnElement[bool] = confirms.in_(names)
        return repetitions
    search = trials.c.facts["search"].as_string()
    searching = any(request.search is not None for request in requests)
    kind = search.is_not(None) if searching else search.is_(None)
    regular: sa.ColumnElement[bool] = confirms.is_(None) & kind
    return regular


def resumable_filter(requests: Sequence[ClaimRequest]) -> sa.ColumnElement[bool]:
    """Return the filter: paused trials that may go on."""
    ids = [
        i for request in requests if request.search is not None for i in request.search.going_on
    ]
    return trials.c.trial_id.in_(ids)


def requested_rows(
    sweep: Sweep, requests: Sequence[ClaimRequest], columns: Sequence[sa.ColumnElement[Any]]
) -> "sa.Select[Any]":
    """Return the query for these columns of all trials of the requested variants, by number."""
    names = [request.variant for request in requests]
    return joined_trials(sweep.name, columns).where(trials.c.variant.in_(names))
