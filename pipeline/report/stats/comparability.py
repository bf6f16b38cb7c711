"""What trials' samples came from; trials on different stores are not comparable."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.study.trial_rows import TrialRow

Store = Mapping[str, Any]
NAMED_BY = ("store", "profile", "digest")


def store_of(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what names a trial's store, from `data` of its specification; None is unknown."""
    return {key: (data or {}).get(key) for key in NAMED_BY}


def shown_store(store: Store) -> str:
    """Return a store in a few words, such as "prepared fine 1a2b3c4d"."""
    digest = str(store["digest"] or "")[:8]
    return " ".join(str(word) for word in (store["store"], store["profile"], digest) if word)


def same(one: Store, other: Store) -> bool:
    """Whether two trials' samples came from the same store, as far as is known."""
    return None in (one["store"], other["store"]) or one == other


def incomparable(trials: Iterable[tuple[str, Store]]) -> str | None:
    """Say which trials are not comparable because of their stores; None if all are alike."""
    groups: dict[str, list[str]] = {}
    for name, store in trials:
        if store["store"] is not None:
            groups.setdefault(shown_store(store), []).append(name)
    if len(groups) < 2:
        return None
    told = "; ".join(f"{store}: {_listed(names)}" for store, names in groups.items())
    return f"Not comparable, their samples came from different stores ({told})."


def apart_rows(rows: Sequence[TrialRow], makers: Iterable[str] = ()) -> str | None:
    """Say which measured trials of a board are not comparable; makers of weights don't count."""
    left_out = set(makers)
    measured = [r for r in rows if r.best_top1 is not None and r.variant not in left_out]
    return incomparable((row.name, store_of(row.facts.get("data"))) for row in measured)


def _listed(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} others"
    return ", ".join(names)
