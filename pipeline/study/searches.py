"""Searches as their trials' rows show them: how one was begun, what more trials would gain.

Trials whose rule read something else are not to be compared with each other. So a search that was
begun under other defaults is kept as it was: where the sweep file leaves a setting open, the
search's first trial says what it is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.search.expected_gain import ENOUGH, MORE, GainForecast, expected_gain
from pipeline.plan.sweep import Search, Sweep
from pipeline.shared.counted import counted
from pipeline.shared.states import Kind, Phase, State
from pipeline.study.best import eligible_groups
from pipeline.study.trial_rows import TrialRow, hours_so_far


def search_trials(rows: Sequence[TrialRow], variant: str) -> list[TrialRow]:
    """Return a variant's trials that belong to its search."""
    return [row for row in rows if row.variant == variant and row.kind is Kind.SEARCH]


def as_begun(search: Search, facts: Mapping[str, Any] | None) -> Search:
    """Return a sweep file's search settings, with what a trial of the search was drawn under.

    Args:
        facts: of that trial; None, or those of another kind of trial: the file's settings.
    """
    if not facts or not facts.get("search"):
        return search
    # Before averaged weights were read, the best so far was, and no trial says so.
    drawn = {"rule": facts["search"], "read": facts.get("read", "best")}
    left_open = drawn.keys() - search.model_fields_set
    return search.model_copy(update={key: drawn[key] for key in left_open})


def as_first_begun(search: Search, rows: Sequence[TrialRow], variant: str) -> Search:
    """Return the settings of a variant's search, as its first trial was drawn under them.

    Args:
        rows: the sweep's trials.
    """
    begun = search_trials(rows, variant)
    return as_begun(search, begun[0].facts if begun else None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOutlook:
    """What more trials of a variant's search would bring.

    Args:
        finished: trials of the search that have ended.
        forecast: what MORE trials gain; None where that cannot be said.
        gpu_hours: what they cost, if they take as much as those so far.
        why_not: why there is no forecast; empty where there is one.
    """

    variant: str
    finished: int
    forecast: GainForecast | None
    gpu_hours: float
    why_not: str

    @property
    def sentence(self) -> str:
        """The forecast in words, or why there is none."""
        if self.forecast is None:
            return f"What {MORE} more trials would gain is not said: {self.why_not}."
        gain = self.forecast
        return (
            f"{gain.more} more trials are expected to gain {100 * gain.mean:.2f} points (in nine "
            f"of ten cases 0 to {100 * gain.high:.2f}) for {_shown(self.gpu_hours)} GPU hours, "
            f"as the {self.finished} finished trials of this search went."
        )

    def record(self) -> dict[str, Any]:
        """Return the outlook as `status --json` shows it; gains are fractions."""
        gain = self.forecast
        return {
            "variant": self.variant,
            "finished": self.finished,
            "more": MORE,
            "expected_gain": gain.mean if gain else None,
            "interval": [0.0, gain.high] if gain else None,
            "chance": gain.chance if gain else None,
            "gpu_hours": round(self.gpu_hours, 4) if gain else None,
            "sentence": self.sentence,
        }


def outlook(sweep: Sweep, rows: Sequence[TrialRow], variant: str) -> SearchOutlook | None:
    """Return what more trials of a variant's search would bring, None if none has finished.

    Args:
        rows: the whole board; the best of all complete trials that are measured alike is what
            has to be beaten.
    """
    mine = search_trials(rows, variant)
    finished = [row for row in mine if row.finished]
    if not finished:
        return None
    groups = eligible_groups(sweep, rows)
    own = [group for group in groups if any(row.variant == variant for row in group)]
    complete = next(iter(own or groups), [])
    best = complete[0].best_top1 if complete else None
    why_not = _why_not(mine, finished, best)
    forecast = None
    if best is not None and not why_not:
        forecast = expected_gain([_end(row, best) for row in finished], best)
    return SearchOutlook(
        variant=variant,
        finished=len(finished),
        forecast=forecast,
        gpu_hours=MORE * hours_so_far(sweep, finished) / len(finished),
        why_not=why_not,
    )


def outlooks(sweep: Sweep, rows: Sequence[TrialRow]) -> list[SearchOutlook]:
    """Return the outlook of each search of a sweep that has finished a trial."""
    found = (outlook(sweep, rows, variant) for variant in sweep.variants)
    return [one for one in found if one is not None]


def _why_not(mine: Sequence[TrialRow], finished: Sequence[TrialRow], best: float | None) -> str:
    """Return why there is no forecast; empty if there is one."""
    paused = sum(row.phase == Phase.PAUSED and not row.finished for row in mine)
    if paused:
        return f"{counted(paused, 'is', 'are')} paused, and paused trials are the better ones"
    if best is None:
        return "none is complete"
    if len(finished) < ENOUGH:
        return f"that takes {ENOUGH} finished trials, {len(finished)} are finished"
    return ""


def _end(row: TrialRow, best: float) -> float:
    """Return what a trial came to; one that was stopped has not beaten the best."""
    reached = row.best_top1 or 0.0
    return reached if row.state == State.COMPLETE else min(reached, best)


def _shown(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"
