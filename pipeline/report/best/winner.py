"""Choose the trial to export, and those it is compared with."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import InputError, NoResult
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent
from pipeline.report.stats.readings import incomparable_rows
from pipeline.shared.states import Phase, State
from pipeline.study.best import Confirmation, best_row, eligible, settled
from pipeline.study.trial_rows import TrialRow, row_named
from pipeline.study.yardstick import yardstick


@dataclasses.dataclass(frozen=True, kw_only=True)
class Winner:
    """The trial to export and those it is compared with.

    Args:
        chosen: the trial was named by the user rather than found to be the best.
        eligible: it is complete; a pruned one is exported only when it is named.
        confirmed: the repetitions of trials on other seeds, by trial.
        unconfirmed: a trial that reads higher but was not repeated, where the winner was.
        others: all other trials that were run, best first.
        not_comparable: a sentence on trials that are not comparable, if there are.
        apart: the names of others that were measured otherwise than the winner.
    """

    row: TrialRow
    chosen: bool
    eligible: bool
    others: Sequence[TrialRow]
    not_comparable: str | None = None
    apart: frozenset[str] = frozenset()
    confirmed: Mapping[str, Confirmation] = dataclasses.field(default_factory=dict)
    unconfirmed: TrialRow | None = None

    @property
    def reading(self) -> float:
        """Its mean over new seeds where it was repeated, else its own reading."""
        repeated = self.confirmed.get(self.row.name)
        return repeated.mean if repeated is not None else self.row.best_top1 or 0.0

    @property
    def runner_up(self) -> TrialRow | None:
        """The best other complete trial; repetitions and imported runs do not count.

        Nor do trials that are not comparable. Beside a confirmed winner it is the next best mean.
        """
        complete = [row for row in self.others if row.state == State.COMPLETE and row.is_regular]
        complete = [row for row in complete if row.name not in self.apart]
        means = [row for row in complete if row.name in self.confirmed]
        if self.row.name in self.confirmed and means:
            return max(means, key=lambda row: self.confirmed[row.name].mean)
        return complete[0] if complete else None


def find_winner(
    sweep: Sweep, rows: Sequence[TrialRow], named: str | None = None, runs: Path | None = None
) -> Winner:
    """Return the best complete trial, or the one that was named.

    Args:
        named: VARIANT/NUMBER.
        runs: the project's runs, where another sweep may have the one that was named.

    Raises:
        NoResult: nothing is complete; the text names the best partial trial.
        InputError: there is no trial of that name, or it has measured nothing.
    """
    if named is not None:
        row = _named(sweep, rows, named, runs)
    else:
        best = best_row(sweep, rows)
        if best is None:
            raise NoResult(_no_winner(sweep, rows))
        row = best
    measured = [r for r in rows if r is not row and r.best_top1 is not None]
    others = [r for r in measured if r.variant not in sweep.makers]
    own = yardstick(sweep, row)
    apart = {other.name for other in others if not own.agrees(yardstick(sweep, other))}
    return Winner(
        row=row,
        chosen=named is not None,
        eligible=row.state == State.COMPLETE,
        others=sorted(others, key=lambda r: (r.name in apart, -(r.best_top1 or 0.0))),
        apart=frozenset(apart),
        not_comparable=incomparable_rows(sweep, [row, *others]),
        confirmed=settled(rows),
        unconfirmed=_unconfirmed(sweep, rows, row),
    )


def _unconfirmed(sweep: Sweep, rows: Sequence[TrialRow], winner: TrialRow) -> TrialRow | None:
    """Return the best trial that reads above a confirmed winner and was not repeated itself."""
    done = settled(rows)
    if winner.name not in done:
        return None
    rest = [row for row in eligible(sweep, rows) if row.name not in done]
    above = [row for row in rest if (row.best_top1 or 0.0) > done[winner.name].mean]
    return above[0] if above else None


def _named(sweep: Sweep, rows: Sequence[TrialRow], named: str, runs: Path | None) -> TrialRow:
    row = row_named(sweep.name, rows, named, runs)
    if row.best_top1 is None:
        raise InputError(f"{named} has measured no epoch yet, so there is nothing to export.")
    if row.imported:
        raise NoResult(f"{named} {_without_weights(sweep, row)}")
    return row


def _without_weights(sweep: Sweep, row: TrialRow) -> str:
    """Return why an imported trial cannot be exported, and what would give its weights."""
    again = f"pcan sweep launch {sweep.name}"
    if row.variant in sweep.variants:
        again += f" --variant {row.variant}"
    return (
        f"was imported from a log ({row.facts['imported'].get('log')}); its weights are not here, "
        f"so it cannot be exported. Train it: {again}"
    )


def _no_winner(sweep: Sweep, rows: Sequence[TrialRow]) -> str:
    """Return why nothing can be exported, and what there is instead."""
    run = [r for r in rows if r.variant not in sweep.makers and not r.superseded]
    words = Counter(_standing(row) for row in run)
    counts = ", ".join(f"{count} {word}" for word, count in words.items()) or "no trial yet"
    text = f'Sweep "{sweep.name}" has no complete trial to export ({counts}).'
    imported = _highest([row for row in run if row.imported])
    if imported is not None:
        text += f" {imported.name} {_without_weights(sweep, imported)}."
    partial = _highest([row for row in run if not row.imported])
    if partial is not None:
        text += (
            f" The best partial one is {partial.name} with {percent(partial.best_top1 or 0.0)}, "
            f"which is not eligible; to export it all the same: pcan sweep best {sweep.name} "
            f"--trial {partial.name}."
        )
    return f"{text} See why: pcan sweep status {sweep.name}"


def _standing(row: TrialRow) -> str:
    return str(Phase.RUNNING) if row.phase == Phase.RUNNING else row.state.lower()


def _highest(rows: Sequence[TrialRow]) -> TrialRow | None:
    measured = [row for row in rows if row.best_top1 is not None]
    return max(measured, key=lambda row: row.best_top1 or 0.0, default=None)
