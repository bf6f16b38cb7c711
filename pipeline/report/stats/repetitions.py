"""What repetitions on new seeds show: a record for scripts, lines for people."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent, shown_reading
from pipeline.report.stats.readings import clips_of, reading_error
from pipeline.report.stats.significance import chances, pooled_spread
from pipeline.shared.counted import counted
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
    confirmed.sort(key=lambda row: -done[row.name].mean)
    groups = [done[row.name].values for row in confirmed]
    clips = next((n for row in confirmed if (n := clips_of(row, root)) is not None), None)
    step = 1 / clips if clips else 0.0
    spread, freedom = pooled_spread(groups, step)
    chance = chances(groups, step)
    return {
        "trials": [_trial(row, done[row.name], root) for row in confirmed],
        "spread": spread if freedom else None,
        "degrees_of_freedom": freedom,
        "chance_best": chance["best"],
        "chance_order": chance["order"],
        "method": METHOD,
    }


def _trial(row: TrialRow, repeated: Confirmation, root: Path) -> dict[str, Any]:
    spread, count = repeated.spread, len(repeated.values)
    return {
        "trial": row.name,
        "first": row.best_top1,
        "std_error": reading_error(row.best_top1, clips_of(row, root)),
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
