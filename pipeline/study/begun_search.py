"""Keep a search that was begun under other defaults as it was begun.

Trials whose rule read something else are not to be compared with each other. So where the sweep
file leaves a setting open, the search's first trial says what it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.sweep import Search
from pipeline.shared.states import Kind
from pipeline.study.trial_rows import TrialRow


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
