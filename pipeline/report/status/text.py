"""The words of `pcan sweep status` and `pcan sweep list`, and the lines below them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from pipeline.plan.verdict import VerdictKind, percent, shown_reading
from pipeline.report.status.layout import COMMANDS_GAP, curve, layout, wrapped
from pipeline.shared.counted import counted
from pipeline.shared.states import Phase, State

_STYLE = {
    State.COMPLETE: "green",
    State.PRUNED: "yellow",
    State.FAIL: "red",
    State.RUNNING: "cyan",
    State.WAITING: "dim",
}


#: Id, heading and place of each column, see `layout`; the last ones are left out first.
COLUMNS = (
    ("trial", "trial", "<"),
    ("plan", "plan", ""),
    ("state", "state", "<"),
    ("epochs", "epochs", ">"),
    ("best", "best top-1", ">"),
    ("curve", "course", ""),
    ("last", "last", ""),
    ("hours", "GPU h", ""),
)


def status_lines(
    record: Mapping[str, Any], width: int, curves: Mapping[str, Sequence[float | None]]
) -> list[Text]:
    """Return the trials of a sweep in lines of a width, from the record of `status --json`.

    Args:
        curves: top-1 by epoch, for the trials whose measurements are at hand.
    """
    best = record["best"]
    winner = (best["variant"], best["number"]) if best is not None else None
    values = [v for curve in curves.values() for v in curve if v is not None and v == v]
    scale = (min(values, default=0.0), max(values, default=1.0))
    rows = []
    for study in record["studies"]:
        for trial in study["trials"]:
            won = (study["variant"], trial["number"]) == winner
            drawn = curves.get(f"{study['variant']}/{trial['number']}", ())
            rows.append({**_cells(study, trial, won), "curve": curve(drawn, *scale)})
        if not study["trials"]:
            nothing = dict.fromkeys((*(name for name, _, _ in COLUMNS), "note"), "")
            name = {"trial": study["variant"], "plan": study["plan"] or "", "state": "-"}
            rows.append({**nothing, **name, "note": study.get("waits") or "", "style": "dim"})
    return list(layout(rows, COLUMNS, width))


def sweeps_lines(sweeps: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """Return the sweeps of a project from the record of `list --json`; a line each if they fit."""
    rows = []
    for sweep in sweeps:
        trials = sorted(sweep["trials"].items())
        counts = ", ".join(f"{count} {state.lower()}" for state, count in trials)
        rows.append((sweep["sweep"], sweep["file"] or "-", sweep["problem"] or counts or "-"))
    first, second = (max((cell_len(row[i]) for row in rows), default=0) for i in (0, 1))
    lines: list[str] = []
    for name, file, state in rows:
        gaps = " " * (first - cell_len(name)), " " * (second - cell_len(file))
        line = f"{name}{gaps[0]}  {file}{gaps[1]}  {state}"
        if cell_len(line) <= width:
            lines.append(line)
        else:
            lines += [name, f"  {file}", *wrapped(state, width, "  ")]
    return lines


def goal_line(record: Mapping[str, Any]) -> str:
    """Return one line on the goal and the best trial so far."""
    goal, best = record["goal"], record["best"]
    head = f"Goal {percent(goal)}. " if goal is not None else ""
    if best is None:
        trials = [trial for study in record["studies"] for trial in study["trials"]]
        if any(trial["imported"] and trial["state"] == State.COMPLETE for trial in trials):
            return f"{head}No trial of the sweep is complete yet; imported runs do not count."
        return f"{head}No trial is complete yet."
    name = f"{best['variant']}/{best['number']}"
    if best["confirmed"] is not None:
        return f"{head}Best: {name} with {_confirmed(best['confirmed'], goal)}."
    reached = ""
    if goal is not None:
        reached = _reached(best["top1"], goal)
        if best["std_error"] and abs(best["top1"] - goal) < 2 * best["std_error"]:
            reached += ", within two standard errors"
    reading = shown_reading(best["top1"], best["std_error"])
    return f"{head}Best: {name} with {reading} at epoch {best['epoch']}{reached}."


def _confirmed(repeated: Mapping[str, Any], goal: float | None) -> str:
    """Return what a confirmed winner reaches; the goal is compared with its mean."""
    mean, count = repeated["mean"], repeated["seeds"]
    spread = "unknown" if repeated["spread"] is None else percent(repeated["spread"])
    text = f"a mean of {percent(mean)} over {counted(count, 'new seed')}, spread {spread}"
    return text if goal is None else text + _reached(mean, goal)


def _reached(top1: float, goal: float) -> str:
    return ": the goal is reached" if top1 >= goal else ": below the goal"


def warning_lines(record: Mapping[str, Any]) -> list[str]:
    """Return why the trials of a sweep are not comparable, if they are not."""
    return [record["not_comparable"]] if record["not_comparable"] else []


def retry_lines(record: Mapping[str, Any]) -> list[str]:
    """Return a line for each failed recipe that may succeed once its cause is removed."""
    return [
        f"{study['variant']}/{trial['number']} failed ({trial['cause'] or 'unknown cause'}). With "
        f"the cause removed, run it again: {trial['retry']}"
        for study in record["studies"]
        for trial in study["trials"]
        if trial["retry"]
    ]


def label_lines(record: Mapping[str, Any]) -> list[str]:
    """Return a line for each trial whose predictions fit other labels better than its own."""
    return [
        f"{study['variant']}/{trial['number']} label_mismatch at epoch {found['epoch']}: "
        f"{found['sentence']}. See: pcan diagnose --plan {record['sweep']} --trial "
        f"{study['variant']}/{trial['number']}"
        for study in record["studies"]
        for trial in study["trials"]
        if (found := trial.get("label_mismatch"))
    ]


def stage_lines(record: Mapping[str, Any]) -> list[str]:
    """Return a line for each trial of a later stage that is old, with what trains it again."""
    return [
        trial["stage"]["old"]
        for study in record["studies"]
        for trial in study["trials"]
        if (trial.get("stage") or {}).get("old")
    ]


def search_lines(record: Mapping[str, Any]) -> list[str]:
    """Return what more trials of each search would gain, or why that is not said."""
    return [f"Search around {one['variant']}: {one['sentence']}" for one in record["searches"]]


def job_lines(record: Mapping[str, Any]) -> list[str]:
    """Return a line for each job that a scheduler has, with the reason why it waits."""
    lines = []
    for job in record["jobs"]:
        reason = f" ({job['reason']})" if job["reason"] else ""
        node = f" on {job['node']}" if job["node"] else ""
        trial = f": {job['trial']}" if job["trial"] else ""
        lines.append(f"Cluster job {job['id']} {job['state'].lower()}{reason}{node}{trial}")
    return lines


def next_line(record: Mapping[str, Any]) -> str:
    """Return the command to run next."""
    sweep = record["sweep"]
    trials = [t for study in record["studies"] for t in study["trials"]]
    phases = {t["phase"] for t in trials}
    if not trials:
        return f"Nothing is registered yet. Start: pcan sweep launch {sweep}"
    if Phase.RUNNING in phases:
        return f"Watch it: pcan sweep watch {sweep}"
    resumable = (Phase.INTERRUPTED, Phase.PAUSED)
    if any(t.get("search") and t["phase"] in resumable for t in trials):
        return f"Go on: {_again(record, 'search')}"
    if Phase.INTERRUPTED not in phases and record["best"] is not None:
        return f"Compare: pcan sweep compare {sweep}{COMMANDS_GAP}Export: pcan sweep best {sweep}"
    lines = retry_lines(record)
    if lines and Phase.INTERRUPTED not in phases:
        return lines[-1]
    return f"Go on: {_again(record, 'launch')}"


def _again(record: Mapping[str, Any], word: str) -> str:
    """Return the command that goes on: the last one if it was of this kind, with its options."""
    usual, last = f"pcan sweep {word} {record['sweep']}", record["command"] or ""
    return last if last.startswith(f"pcan sweep {word} ") else usual


def _cells(study: Mapping[str, Any], trial: Mapping[str, Any], won: bool) -> dict[str, str]:
    state = trial["state"]
    if state == State.RUNNING and trial["phase"] != Phase.RUNNING:
        state = f"{state} ({trial['phase']})"
    return {
        "trial": f"{study['variant']}/{trial['number']}",
        "plan": study["plan"] or "",
        "state": f"{state} *" if won else str(state),
        "epochs": str(trial["epochs"] or ""),
        "best": _best(trial),
        "last": "" if trial["last_top1"] is None else percent(trial["last_top1"]),
        "hours": f"{trial['gpu_hours']:.2f}" if trial["gpu_hours"] else "",
        "note": "; ".join([*_origin(trial), *_course(trial)]),
        "style": _STYLE.get(trial["state"], ""),
    }


def _best(trial: Mapping[str, Any]) -> str:
    """Return the best reading with its standard error and its epoch."""
    if trial["best_top1"] is None:
        return ""
    error = trial["std_error"]
    shown = percent(trial["best_top1"]) + (
        " ± unknown" if error is None else f" ± {100 * error:.2f}"
    )
    return shown if trial["best_epoch"] is None else f"{shown} @{trial['best_epoch']}"


def _origin(trial: Mapping[str, Any]) -> list[str]:
    """Return where a trial comes from and where it is, if that is out of the ordinary."""
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
    if trial.get("stage"):
        old = ", old" if trial["stage"]["old"] else ""
        parts.append(f"began with {trial['stage']['trial']}{old}")
    if trial["continues"]:
        parts.append(f"continues {trial['continues']}")
    return parts


def _course(trial: Mapping[str, Any]) -> list[str]:
    """Return what lies ahead of a running trial, or why it ended and what follows."""
    if trial["phase"] == Phase.RUNNING:
        return _ahead(trial)
    if not trial["reason"]:
        return []
    follows = [v["next"] for v in trial["verdicts"] if v.get("next")]
    return [trial["reason"], *(f"next: {name}" for name in follows[-1:])]


def _ahead(trial: Mapping[str, Any]) -> list[str]:
    parts = []
    if trial["next_gate"] is not None:
        parts.append(f"next gate: epoch {trial['next_gate']['epoch']}")
    if trial["eta_s"] is not None:
        parts.append(f"{trial['eta_s'] / 60:.0f} min left")
    watched = [v for v in trial["verdicts"] if v["verdict"] == VerdictKind.WATCH]
    return parts + [f"watch: {verdict['reason']}" for verdict in watched[-1:]]
