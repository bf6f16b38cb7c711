"""The README.md that lies in an export."""

from collections.abc import Mapping
from typing import Any

from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent, shown_reading
from pipeline.report.best.exported_config import ROOT_VARIABLE
from pipeline.report.best.winner import Winner
from pipeline.report.stats.repetitions import confirmation_text


def readme(sweep: Sweep, winner: Winner, record: Mapping[str, Any]) -> str:
    """Return the README.md of an export: what won, against which, how to use it."""
    row = winner.row
    lines = [
        f"# {sweep.name}: {row.name}",
        "",
        f"Top-1 {shown_reading(row.best_top1 or 0, record['std_error'])} at epoch "
        f"{row.best_epoch} ({record['metric']}).",
    ]
    lines += ["", *(f"- {line}" for line in confirmation_text(record.get("confirmation")))]
    lines += [""] if record.get("confirmation") else []
    if record["goal"] is not None:
        word = "reached" if record["goal_reached"] else "not reached"
        lines.append(f"The goal of {percent(record['goal'])} is {word}.")
    if not winner.eligible:
        lines.append(f"Not eligible as a winner: the trial is {row.state} ({row.reason}).")
    lines += ["", "Against:", ""] + [
        f"- {o['trial']}: {percent(o['top1'])}, {o['state']}{_kind(o)}"
        + (f" ({o['reason']})" if o["reason"] else "")
        for o in record["others"]
    ]
    if record["not_comparable"]:
        lines += ["", record["not_comparable"]]
    start = "from random weights"
    variant = sweep.variants.get(row.variant)
    if variant is not None and variant.warm_start is not None:
        start = f"from `{variant.warm_start.checkpoint}` (set `load_from` to it)"
    run = "from mmengine import Config; from mmengine.runner import Runner"
    lines += [
        "",
        "It needs the packages in `best.json` under `versions`. The data is looked for where the",
        f"config says, or below the folder in the variable `{ROOT_VARIABLE}`.",
        "",
        "Test:",
        "",
        f"    python -c \"{run}; c = Config.fromfile('config.py'); c.work_dir = 'test'; "
        "c.load_from = 'weights.pth'; Runner.from_cfg(c).test()\"",
        "",
        f"Train anew, {start}:",
        "",
        f"    python -c \"{run}; c = Config.fromfile('config.py'); c.work_dir = 'train'; "
        'Runner.from_cfg(c).train()"',
        "",
    ]
    return "\n".join(lines)


def _kind(other: Mapping[str, Any]) -> str:
    """Say what another trial is where it is neither planned nor searched."""
    if other["confirms"]:
        return f", confirms {other['confirms']}"
    return ", imported" if other["imported"] else ""
