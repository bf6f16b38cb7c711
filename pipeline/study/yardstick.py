"""What a trial's top-1 was measured by: readings by different yardsticks are never ranked as one.

A yardstick is the metric, and the annotation and split of the validation. What is unknown (trials
of older versions, imported logs) counts as the same.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pipeline.plan.sweep import Sweep
from pipeline.study.trial_rows import TrialRow

#: The loader whose clips a validation reads.
VALIDATION = "val_dataloader"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Yardstick:
    """A metric and the clips it is read on.

    Args:
        annotation: sha256 of the validation's annotation file.
    """

    metric: str | None
    annotation: str | None
    split: str | None

    @classmethod
    def of(cls, metric: str | None, data: Mapping[str, Any] | None) -> "Yardstick":
        """Return the yardstick of a trial, from `metric` and `data` of its specification."""
        digests, splits = ((data or {}).get(key) or {} for key in ("sha256", "splits"))
        return cls(metric=metric, annotation=digests.get(VALIDATION), split=splits.get(VALIDATION))

    def agrees(self, other: "Yardstick") -> bool:
        """Whether two readings may be compared, as far as is known."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return all(a is None or b is None or a == b for a, b in pairs)

    def __str__(self) -> str:
        clips = [self.split, self.annotation and self.annotation[:8]]
        words = " ".join(word for word in clips if word)
        return f"{self.metric or 'metric unknown'}{f' on {words}' if words else ''}"


def yardstick(sweep: Sweep, row: TrialRow) -> Yardstick:
    """Return what a trial of the storage was measured by."""
    return Yardstick.of(sweep.metric_of(row.variant), row.facts.get("data"))


def grouped(things: Iterable[tuple[T, Yardstick]]) -> list[tuple[Yardstick, list[T]]]:
    """Return what may be ranked together, in the order of each kind's first."""
    groups: list[tuple[Yardstick, list[T]]] = []
    for thing, own in things:
        group = next((names for known, names in groups if known.agrees(own)), None)
        if group is None:
            groups.append((own, [thing]))
        else:
            group.append(thing)
    return groups


def ranked_groups(sweep: Sweep, rows: Sequence[TrialRow]) -> list[list[TrialRow]]:
    """Return trials by what may be ranked as one, those of the plan's own yardstick first.

    The plan's own is that of the ladder's first variant, by its newest trial.
    """
    own = sweep.metric_of(sweep.ladder.start)

    def order(row: TrialRow) -> tuple[bool, bool, bool, int]:
        one, first = yardstick(sweep, row), row.variant == sweep.ladder.start
        return one.metric != own, one.annotation is None, not first, -row.number

    pairs = [(row, yardstick(sweep, row)) for row in sorted(rows, key=order)]
    return [group for _, group in grouped(pairs)]


def apart(named: Iterable[tuple[str, Yardstick]]) -> str | None:
    """Return which trials were measured differently, in a sentence; None if all are alike."""
    groups = grouped(named)
    if len(groups) < 2:
        return None
    listed = "; ".join(f"{kind}: {shown_names(names)}" for kind, names in groups)
    return (
        f"Not comparable, they read another metric or other clips, and each kind is ranked by "
        f"itself ({listed})."
    )


def shown_names(names: Sequence[str]) -> str:
    """Return some names, the first of many."""
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} others"
    return ", ".join(names)
