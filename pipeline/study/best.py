"""Which trial of a sweep is the best.

A best reading is partly luck: of many trials the luckiest reads highest. So once trials were
repeated on other seeds (`best --confirm`), the mean of those repetitions decides among them, and
a trial that was not repeated cannot displace them by one reading.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipeline.plan.sweep import Sweep
from pipeline.shared.states import State
from pipeline.study.trial_rows import TrialRow
from pipeline.study.yardstick import ranked_groups


class RepeatedRun(Protocol):
    """What is asked of a repetition: a row of the storage has it, and so has a run directory."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def finished(self) -> bool: ...
    @property
    def best_top1(self) -> float | None: ...
    @property
    def facts(self) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confirmation:
    """The repetitions of a trial on other seeds.

    Args:
        runs: all of them, in order.
    """

    trial: str
    runs: tuple[RepeatedRun, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """The best top-1 of each that is complete; the trial's own is not among them.

        That one was chosen for being high, so it would lift the mean.
        """
        complete = [run.best_top1 for run in self.runs if run.state == State.COMPLETE]
        return tuple(value for value in complete if value is not None)

    @property
    def pending(self) -> int:
        """How many have not ended."""
        return sum(not run.finished for run in self.runs)

    @property
    def failed(self) -> int:
        """How many ended without a result."""
        return len(self.runs) - self.pending - len(self.values)

    @property
    def mean(self) -> float:
        """The mean over the new seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """The standard deviation over the new seeds; None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def confirmations(rows: Sequence[TrialRow]) -> dict[str, Confirmation]:
    """Return the repetitions of each trial that has any, by its name."""
    runs_of: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.confirms and not row.superseded:
            runs_of.setdefault(row.confirms, []).append(row)
    return {name: Confirmation(trial=name, runs=tuple(runs)) for name, runs in runs_of.items()}


def settled(rows: Sequence[TrialRow]) -> dict[str, Confirmation]:
    """Return the confirmations that are done and have a mean."""
    return {
        name: confirmation
        for name, confirmation in confirmations(rows).items()
        if confirmation.values and not confirmation.pending
    }


def eligible(sweep: Sweep, rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the trials that could win, best reading first.

    Complete ones that were measured alike (`yardstick.py`); not makers of starting weights, not
    imported ones, which have no weights, and not the repetitions of others, which stand for the
    trial they repeat.
    """
    groups = eligible_groups(sweep, rows)
    return groups[0] if groups else []


def eligible_groups(sweep: Sweep, rows: Sequence[TrialRow]) -> list[list[TrialRow]]:
    """Return what `eligible` returns, and the same of trials that are measured otherwise.

    Of equal readings the variant that the plan names first goes first, then the lower number.
    """
    complete = [
        row
        for row in rows
        if row.state == State.COMPLETE
        and row.best_top1 is not None
        and row.variant not in sweep.makers
        and row.is_regular
    ]
    groups = ranked_groups(sweep, complete)
    place = {name: at for at, name in enumerate(sweep.variants)}

    def order(row: TrialRow) -> tuple[float, int, int]:
        return -(row.best_top1 or 0.0), place.get(row.variant, len(place)), row.number

    return [sorted(group, key=order) for group in groups]


def best_row(sweep: Sweep, rows: Sequence[TrialRow]) -> TrialRow | None:
    """Return the winner: the best mean where trials were confirmed, else the best reading."""
    return best_candidate(eligible(sweep, rows), rows)


def best_candidate(candidates: Sequence[TrialRow], rows: Sequence[TrialRow]) -> TrialRow | None:
    """Return the best of some complete trials, best reading first, as `best_row` chooses.

    Args:
        rows: all trials, the repetitions among them.
    """
    done = settled(rows)
    confirmed = [row for row in candidates if row.name in done]
    if confirmed:
        return max(confirmed, key=lambda row: done[row.name].mean)
    return next(iter(candidates), None)
