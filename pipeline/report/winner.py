"""Which trial won, against which others."""

import dataclasses
from collections.abc import Sequence

from pipeline.errors import InputError, NoResult
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent
from pipeline.report.stores import apart_rows
from pipeline.study.best import best_row
from pipeline.study.board import TrialRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Winner:
    """The trial to export and those it is compared with.

    Args:
        chosen: the trial was named by the user rather than found to be the best.
        eligible: it is complete; a pruned one is exported only when it is named.
        others: all other trials that were run, best first.
        not_comparable: which trials were trained on different stores, in a sentence.
    """

    row: TrialRow
    chosen: bool
    eligible: bool
    others: Sequence[TrialRow]
    not_comparable: str | None

    @property
    def runner_up(self) -> TrialRow | None:
        """The best other complete trial."""
        complete = [row for row in self.others if row.state == "COMPLETE"]
        return complete[0] if complete else None


def find_winner(sweep: Sweep, rows: Sequence[TrialRow], named: str | None = None) -> Winner:
    """Return the best complete trial, or the one that was named.

    Args:
        named: VARIANT/NUMBER.

    Raises:
        NoResult: nothing is complete; the text names the best partial trial.
        InputError: there is no trial of that name, or it has measured nothing.
    """
    if named is not None:
        row = _named(sweep, rows, named)
    else:
        found = best_row(sweep, rows)
        if found is None:
            raise NoResult(_nothing(sweep, rows))
        row = found
    others = [r for r in rows if r is not row and r.best_top1 is not None]
    others = [r for r in others if r.variant not in sweep.makers]
    return Winner(
        row=row,
        chosen=named is not None,
        eligible=row.state == "COMPLETE",
        others=sorted(others, key=lambda r: -(r.best_top1 or 0.0)),
        not_comparable=apart_rows([row, *others], sweep.makers),
    )


def _named(sweep: Sweep, rows: Sequence[TrialRow], named: str) -> TrialRow:
    row = next((r for r in rows if r.name == named), None)
    if row is None:
        known = ", ".join(r.name for r in rows if not r.superseded) or "none"
        raise InputError(f'{sweep.name} has no trial "{named}"; it has: {known}.')
    if row.best_top1 is None:
        raise InputError(f"{named} has measured no epoch yet, so there is nothing to export.")
    return row


def _nothing(sweep: Sweep, rows: Sequence[TrialRow]) -> str:
    """Say why nothing can be exported, and what there is."""
    run = [r for r in rows if r.variant not in sweep.makers and not r.superseded]
    counts: dict[str, int] = {}
    for row in run:
        word = "running" if row.phase == "running" else row.state.lower()
        counts[word] = counts.get(word, 0) + 1
    told = ", ".join(f"{n} {word}" for word, n in counts.items()) or "no trial yet"
    text = f'Sweep "{sweep.name}" has no complete trial to export ({told}).'
    partial = max(
        (r for r in run if r.best_top1 is not None),
        key=lambda r: r.best_top1 or 0.0,
        default=None,
    )
    if partial is not None and partial.best_top1 is not None:
        text += (
            f" The best partial one is {partial.name} with {percent(partial.best_top1)}, which is "
            f"not eligible; to export it all the same: pcan sweep best {sweep.name} "
            f"--trial {partial.name}."
        )
    return f"{text} See why: pcan sweep status {sweep.name}"
