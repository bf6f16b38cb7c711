"""The tables people read: a sweep's trials, and the sweeps of a project."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from pipeline.plan.verdict import percent, shown_reading

_STYLE = {
    "COMPLETE": "green",
    "PRUNED": "yellow",
    "FAIL": "red",
    "RUNNING": "cyan",
    "WAITING": "dim",
}


def status_table(record: Mapping[str, Any]) -> Table:
    """Return the trials of a sweep, one a row, from the record of `status --json`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("trial", "left"),
        ("plan", "left"),
        ("state", "left"),
        ("epochs", "right"),
        ("best top-1", "right"),
        ("std error", "right"),
        ("last", "right"),
        ("GPU h", "right"),
        ("what happened, what is next", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    best = record["best"]
    for study in record["studies"]:
        for trial in study["trials"]:
            won = best is not None and (best["variant"], best["number"]) == (
                study["variant"],
                trial["number"],
            )
            table.add_row(*_cells(study, trial, won), style=_STYLE.get(trial["state"], ""))
        if not study["trials"]:
            table.add_row(study["variant"], study["plan"] or "", "-", style="dim")
    return table


def goal_line(record: Mapping[str, Any]) -> str:
    """Return one line on the goal and the best trial so far."""
    goal, best = record["goal"], record["best"]
    wanted = f"Goal {percent(goal)}. " if goal is not None else ""
    if best is None:
        return f"{wanted}No trial is complete yet."
    reached = ""
    if goal is not None:
        reached = ": the goal is reached" if best["top1"] >= goal else ": below the goal"
    if reached and best["std_error"] and abs(best["top1"] - goal) < 2 * best["std_error"]:
        reached += ", within two standard errors"
    name = f"{best['variant']}/{best['number']}"
    if best["confirmed"] is not None:
        return f"{wanted}Best: {name} with {_confirmed(best['confirmed'], goal)}."
    reading = shown_reading(best["top1"], best["std_error"])
    return f"{wanted}Best: {name} with {reading} at epoch {best['epoch']}{reached}."


def warning_lines(record: Mapping[str, Any]) -> list[str]:
    """Return what speaks against comparing the trials of a sweep."""
    return [record["not_comparable"]] if record["not_comparable"] else []


def job_lines(record: Mapping[str, Any]) -> list[str]:
    """Return a line for each job that a scheduler has, with the reason why it waits."""
    lines = []
    for job in record["jobs"]:
        reason = f" ({job['reason']})" if job["reason"] else ""
        node = f" on {job['node']}" if job["node"] else ""
        trial = f": {job['trial']}" if job["trial"] else ""
        lines.append(f"SLURM job {job['id']} {job['state'].lower()}{reason}{node}{trial}")
    return lines


def _confirmed(found: Mapping[str, Any], goal: float | None) -> str:
    """Say what a confirmed winner reaches; the goal is held against its mean."""
    spread = "unknown" if found["spread"] is None else percent(found["spread"])
    seeds = "seed" if found["seeds"] == 1 else "seeds"
    text = f"a mean of {percent(found['mean'])} over {found['seeds']} new {seeds}, spread {spread}"
    if goal is None:
        return text
    return f"{text}: " + ("the goal is reached" if found["mean"] >= goal else "below the goal")


def next_line(record: Mapping[str, Any]) -> str:
    """Return the command that a user wants next."""
    sweep = record["sweep"]
    trials = [t for study in record["studies"] for t in study["trials"]]
    phases = {t["phase"] for t in trials}
    if not trials:
        return f"Nothing is registered yet. Start: pcan sweep launch {sweep}"
    if "running" in phases:
        return f"Watch it: pcan sweep watch {sweep}"
    if any(t.get("search") and t["phase"] in ("interrupted", "paused") for t in trials):
        return f"Go on: pcan sweep search {sweep}"
    if "interrupted" in phases:
        return f"Go on: pcan sweep launch {sweep}"
    if record["best"] is not None:
        return f"Compare: pcan sweep compare {sweep}   Export: pcan sweep best {sweep}"
    return f"Go on: pcan sweep launch {sweep}"


def _cells(study: Mapping[str, Any], trial: Mapping[str, Any], won: bool) -> list[str]:
    state = trial["state"]
    if state == "RUNNING" and trial["phase"] != "running":
        state = f"{state} ({trial['phase']})"
    best = "" if trial["best_top1"] is None else percent(trial["best_top1"])
    if best and trial["best_epoch"] is not None:
        best += f" @{trial['best_epoch']}"
    last = "" if trial["last_top1"] is None else percent(trial["last_top1"])
    return [
        f"{study['variant']}/{trial['number']}",
        study["plan"] or "",
        f"{state} *" if won else state,
        str(trial["epochs"]),
        best,
        _error(trial),
        last,
        f"{trial['gpu_hours']:.2f}" if trial["gpu_hours"] else "",
        _story(trial),
    ]


def _error(trial: Mapping[str, Any]) -> str:
    if trial["best_top1"] is None:
        return ""
    return "unknown" if trial["std_error"] is None else percent(trial["std_error"])


def _story(trial: Mapping[str, Any]) -> str:
    parts = []
    if trial["imported"]:
        parts.append(f"imported from {trial['imported'].get('log')}")
    if trial["confirms"]:
        parts.append(f"confirms {trial['confirms']}, seed {trial['seed']}")
    if trial["chosen"]:
        last = trial["chosen"][-1]
        parts.append(f"exported by choice of {last['by']}, {last['time']}")
    if trial["run_dir_host"]:
        parts.append(f"on {trial['run_dir_host']}")
    if trial["continues"]:
        parts.append(f"continues {trial['continues']}")
    if trial["phase"] == "running":
        gate = trial["next_gate"]
        if gate is not None:
            parts.append(f"next gate: epoch {gate['epoch']}")
        if trial["eta_s"] is not None:
            parts.append(f"{trial['eta_s'] / 60:.0f} min left")
        watched = [v for v in trial["verdicts"] if v["verdict"] == "watch"]
        if watched:
            parts.append(f"watch: {watched[-1]['reason']}")
    elif trial["reason"]:
        parts.append(trial["reason"])
        follows = [v["next"] for v in trial["verdicts"] if v.get("next")]
        if follows:
            parts.append(f"next: {follows[-1]}")
    return "; ".join(parts)
