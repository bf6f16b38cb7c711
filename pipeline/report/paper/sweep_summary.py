"""What a report says about a sweep: a row a variant, the winner, and what is real.

Everything is taken from the record of `compare --json`; nothing is measured or chosen again.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.compare.compare_trials import best_of_trial
from pipeline.shared.states import Phase, State

Record = Mapping[str, Any]
#: Rows of a sweep with a single variant, a search for example: its best trials.
MOST_TRIALS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariantRow:
    """A variant as the report's table shows it: by its best trial, and by its seeds.

    Args:
        label: the variant, or the trial where the sweep has a single variant.
        trial: the record of the trial that stands for the variant.
        top1: its best reading, None if it has measured nothing.
        seeds: its repetitions on new seeds, None without any.
        difference: its comparison with the winner, None for the winner and where there is none.
    """

    label: str
    variant: str
    plan: str | None
    trial: Record
    top1: float | None
    epoch: int | None
    seeds: Record | None
    difference: Record | None

    @property
    def name(self) -> str:
        return str(self.trial["id"])

    @property
    def points(self) -> float | None:
        """The difference to the winner, negative where the winner reads higher."""
        if self.difference is None or self.difference["difference"] is None:
            return None
        sign = -1 if self.difference["b"] == self.name else 1
        return float(sign * self.difference["difference"])

    @property
    def verdict(self) -> str:
        """What the paired test says of the difference to the winner."""
        if self.difference is None:
            return ""
        if not self.difference["comparable"]:
            return "not comparable"
        return {None: "not tested", True: "real", False: "chance"}[self.difference["real"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """A sweep as the report shows it.

    Args:
        data: the record of `compare --json`.
        rows: the winner first, then by reading, those that are not comparable with it last;
            variants without a trial are left out.
        winner: the row of the winner, None where no trial is complete.
    """

    data: Record
    rows: Sequence[VariantRow]
    winner: VariantRow | None

    @property
    def sweep(self) -> str:
        return str(self.data["sweep"])

    @property
    def runner_up(self) -> VariantRow | None:
        """The next complete row after the winner, None where there is none."""
        if self.winner is None:
            return None
        complete = [r for r in self.rows[1:] if r.trial["state"] == State.COMPLETE]
        return next((row for row in complete if not row.trial.get("apart")), None)


def summary_of(data: Record, makers: Sequence[str] = ()) -> SweepSummary:
    """Return what a report says about a sweep.

    Args:
        data: what `compare_record.collect` returns.
        makers: variants that only make starting weights; they are not rows.
    """
    seeds = {one["trial"]: one for one in (data["confirmation"] or {}).get("trials", ())}
    regular = [t for t in data["trials"] if t["variant"] not in makers and not t["confirms"]]
    single = len({trial["variant"] for trial in regular}) == 1
    best = (data["best"] or {}).get("trial")
    regular.sort(
        key=lambda t: (t["id"] == best, not t.get("apart"), _rank(t, seeds)), reverse=True
    )
    chosen: dict[str, Record] = {}
    for trial in regular:
        chosen.setdefault(trial["id"] if single else trial["variant"], trial)
    ranked = list(chosen.values())[: MOST_TRIALS if single else None]
    first = ranked[0] if ranked and ranked[0]["id"] == best else None
    pairs = {frozenset((d["a"], d["b"])): d for d in data["differences"]}
    rows = [_row(trial, seeds, pairs, first, single) for trial in ranked]
    return SweepSummary(data=data, rows=rows, winner=rows[0] if first is not None else None)


def _rank(trial: Record, seeds: Mapping[str, Record]) -> tuple[bool, bool, float]:
    """Return what the better of two trials has more of: complete, confirmed, its reading."""
    complete = trial["state"] == State.COMPLETE and not trial["imported"]
    repeated = seeds.get(trial["id"]) if complete else None
    reading = repeated["mean"] if repeated else (best_of_trial(trial) or (0, -1.0))[1]
    return complete, repeated is not None, reading


def _row(
    trial: Record,
    seeds: Mapping[str, Record],
    pairs: Mapping[frozenset[str], Record],
    winner: Record | None,
    single: bool,
) -> VariantRow:
    best = best_of_trial(trial)
    against = None if winner is None else pairs.get(frozenset((winner["id"], trial["id"])))
    return VariantRow(
        label=trial["id"] if single else trial["variant"],
        variant=trial["variant"],
        plan=trial["plan"],
        trial=trial,
        top1=best[1] if best else None,
        epoch=best[0] if best else None,
        seeds=seeds.get(trial["id"]),
        difference=None if trial is winner else against,
    )


def state_of(trial: Record) -> str:
    """Return a trial's state in words: "complete", "stopped by a gate", "running"."""
    if trial["phase"] != Phase.DONE:
        return str(trial["phase"])
    words = {
        State.COMPLETE: "complete",
        State.PRUNED: f"stopped ({trial['cause']})" if trial["cause"] else "stopped",
        State.FAIL: f"failed ({trial['cause']})" if trial["cause"] else "failed",
    }
    return words.get(trial["state"], str(trial["state"]).lower())
