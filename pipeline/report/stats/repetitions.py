"""What repetitions on new seeds show: a record for scripts, lines for people."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent, shown_reading
from pipeline.report.stats.readings import clips_of, reading_error
from pipeline.report.stats.significance import chances, pooled_spread
from pipeline.shared.counted import counted
from pipeline.shared.states import Phase
from pipeline.study.best import Confirmation, eligible, settled
from pipeline.study.trial_rows import TrialRow

METHOD = (
    "normal over seeds with one spread common to all trials, flat priors: Student's t; the first "
    "reading, which chose the trial, is left out"
)


def confirmation_record(
    sweep: Sweep, rows: Sequence[TrialRow], root: Path
) -> dict[str, Any] | None:
    """Return the confirmed trials, best mean first, and the chances of their order.

    None if no trial is confirmed.

    Args:
        root: the project's folder.
    """
    done = settled(rows)
    confirmed = [row for row in eligible(sweep, rows) if row.name in done]
    if not confirmed:
        return None
    clips = {row.name: clips_of(row, root) for row in confirmed}
    first = {row.name: (row.best_top1, clips[row.name]) for row in confirmed}
    return _record(first, {name: done[name] for name in first})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FolderRun:
    """A repetition as a record of the comparison has it."""

    name: str
    state: str
    finished: bool
    best_top1: float | None
    facts: Mapping[str, Any]


def confirmation_of_trials(
    trials: Sequence[Mapping[str, Any]], candidates: Sequence[str]
) -> dict[str, Any] | None:
    """Return `confirmation_record` of the trials that `compare --json` shows.

    Args:
        candidates: the trials that could have been confirmed, best reading first.
    """
    runs: dict[str, list[_FolderRun]] = {}
    for trial in trials:
        if trial["confirms"] in candidates:
            runs.setdefault(trial["confirms"], []).append(_folder_run(trial))
    every = {n: Confirmation(trial=n, runs=tuple(found)) for n, found in runs.items()}
    done = {n: one for n, one in every.items() if one.values and not one.pending}
    record = {t["id"]: t for t in trials}
    first = {n: (_best(record[n]), record[n]["clips"]) for n in candidates if n in done}
    return _record(first, done) if done else None


def _folder_run(trial: Mapping[str, Any]) -> _FolderRun:
    return _FolderRun(
        name=trial["id"],
        state=trial["state"],
        finished=trial["phase"] == Phase.DONE,
        best_top1=_best(trial),
        facts={"seed": trial["config"].get("(seed)")},
    )


def _best(trial: Mapping[str, Any]) -> float | None:
    pairs = zip(trial["epochs"], trial["top1"], strict=True)
    return max((top1 for epoch, top1 in pairs if epoch > 0 and top1 is not None), default=None)


def _record(
    first: Mapping[str, tuple[float | None, int | None]], done: Mapping[str, Confirmation]
) -> dict[str, Any]:
    """Return the record of confirmed trials, best mean first.

    Args:
        first: each trial's own reading and its number of clips.
    """
    names = sorted(first, key=lambda name: -done[name].mean)
    groups = [done[name].values for name in names]
    clips = next((first[name][1] for name in names if first[name][1]), None)
    step = 1 / clips if clips else 0.0
    spread, freedom = pooled_spread(groups, step)
    chance = chances(groups, step)
    return {
        "trials": [_trial(name, *first[name], done[name]) for name in names],
        "spread": spread if freedom else None,
        "degrees_of_freedom": freedom,
        "chance_best": chance["best"],
        "chance_order": chance["order"],
        "method": METHOD,
    }


def _trial(
    name: str, top1: float | None, clips: int | None, repeated: Confirmation
) -> dict[str, Any]:
    spread, count = repeated.spread, len(repeated.values)
    return {
        "trial": name,
        "first": top1,
        "std_error": reading_error(top1, clips),
        "runs": [
            {"trial": run.name, "seed": run.facts.get("seed"), "state": run.state}
            | {"top1": run.best_top1}
            for run in repeated.runs
        ],
        "values": list(repeated.values),
        "failed": repeated.failed,
        "mean": repeated.mean,
        "spread": spread,
        "mean_std_error": None if spread is None else spread / math.sqrt(count),
    }


def confirmation_text(record: Mapping[str, Any] | None) -> list[str]:
    """Return the record as lines, the winner first; no lines without a record."""
    if not record:
        return []
    lines = [_line(one) for one in record["trials"]]
    best, order = record["chance_best"], record["chance_order"]
    first = record["trials"][0]["trial"]
    if len(lines) < 2:
        return lines
    if best is None:
        return [*lines, "The chance that this order is right is unknown: one new seed each."]
    text = f"The chance that {first} is the best of them over all seeds is {_chance(best)}"
    if len(lines) > 2:
        text += f", that the whole order is right {_chance(order)}"
    return [*lines, f"{text} (this validation set, spread {percent(record['spread'])} a seed)."]


def confirmed_line(one: Mapping[str, Any]) -> str:
    """Return the mean of a confirmed trial with its spread."""
    count = len(one["values"])
    spread = "unknown" if one["spread"] is None else percent(one["spread"])
    return f"mean {percent(one['mean'])} over {counted(count, 'new seed')}, spread {spread}"


def _line(one: Mapping[str, Any]) -> str:
    values = ", ".join(f"{100 * value:.2f}" for value in one["values"])
    failed = f"; {one['failed']} failed" if one["failed"] else ""
    first = shown_reading(one["first"], one["std_error"])
    return f"{one['trial']}: {confirmed_line(one)} ({values}{failed}); first reading {first}"


def _chance(value: float) -> str:
    """Return a chance in percent; never certainty, which a few seeds cannot give."""
    if value > 0.995:
        return "above 99 %"
    return "below 1 %" if value < 0.005 else f"{100 * value:.0f} %"
