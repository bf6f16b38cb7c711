"""A sweep in at most 2,048 bytes of JSON, for scripts and coding agents that steer one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.shared.counted import counted
from pipeline.shared.states import Phase, State

#: What `brief --json` may measure, as UTF-8.
MOST_BYTES = 2048
#: Longest sentence that is kept, in characters.
LONGEST = 160
#: The state of a sweep whose trials only the run directories know.
UNREGISTERED = "unregistered"
RELAUNCH = "launching before the storage is refilled: the plan would begin again"

Record = Mapping[str, Any]


def brief_record(
    status: Record, differences: Sequence[Record], in_folders: int = 0
) -> dict[str, Any]:
    """Return the brief of a sweep; what does not fit is left out, the least useful first.

    Args:
        status: what `status --json` prints.
        differences: of `compare --json`.
        in_folders: trials that the run directories hold, whatever the storage knows.
    """
    trials = [
        {**trial, "trial": f"{study['variant']}/{trial['number']}"}
        for study in status["studies"]
        for trial in study["trials"]
    ]
    lost = in_folders > 0 and not trials
    best = status["best"]
    name = f"{best['variant']}/{best['number']}" if best else None
    record = {
        "schema": 1,
        "sweep": status["sweep"],
        "state": UNREGISTERED if lost else _state(trials, status["best"]),
        "best": best and {"trial": name, **{k: best[k] for k in ("top1", "epoch", "std_error")}},
        "goal": status["goal"],
        "running": [_running(trial) for trial in trials if trial["phase"] == Phase.RUNNING],
        "real_differences": _real(differences, name),
        "next": _refill(status, in_folders) if lost else _next(status, trials),
        "avoid": [*([RELAUNCH] if lost else ()), *_avoid(status, trials)],
    }
    if best and best["confirmed"]:
        record["best"]["confirmed"] = best["confirmed"]
    return fitted(record)


def _refill(status: Record, in_folders: int) -> list[dict[str, str]]:
    """Return what to do where the storage has lost the trials."""
    sweep = status["sweep"]
    count = counted(in_folders, "trial")
    why = f"the storage knows no trial, runs/{sweep} has {count}; refill it"
    return [{"why": why, "command": f"pcan doctor {sweep} --rebuild"}]


def _state(trials: Sequence[Record], best: Record | None) -> str:
    """Return one word: new, running, interrupted, paused, waiting or done."""
    phases = {trial["phase"] for trial in trials}
    order: tuple[Phase, ...] = (Phase.RUNNING, Phase.INTERRUPTED, Phase.PAUSED)
    if best is None:  # beside a winner the plan needs none of those that wait
        order = (*order, Phase.WAITING)
    if not trials or phases == {Phase.WAITING}:
        return "new"
    return next((str(phase) for phase in order if phase in phases), str(Phase.DONE))


def _running(trial: Record) -> dict[str, Any]:
    keys = ("trial", "epochs", "last_top1", "eta_s")
    return {key: trial[key] for key in keys}


def _real(differences: Sequence[Record], best: str | None) -> list[dict[str, Any]]:
    """Return the real differences, those of the best trial first, then by size."""
    real = [pair for pair in differences if pair["real"]]
    real.sort(key=lambda pair: (best not in (pair["a"], pair["b"]), -pair["difference"]))
    return [
        {"better": pair["a"], "worse": pair["b"], "points": round(100 * pair["difference"], 2)}
        | {"p": float(f"{pair['p_adjusted']:.2g}")}
        for pair in real
    ]


def _next(status: Record, trials: Sequence[Record]) -> list[dict[str, str]]:
    """Return what to do, the first first, each with its reason and exact command."""
    sweep, state, best = status["sweep"], _state(trials, status["best"]), status["best"]
    if state == "new":
        return [
            {"why": "see what it will do and cost", "command": f"pcan sweep plan {sweep}"},
            {"why": "nothing has run yet", "command": f"pcan sweep launch {sweep}"},
        ]
    steps = []
    if state == Phase.RUNNING:
        steps.append({"why": "trials run", "command": f"pcan sweep status {sweep} --json"})
    if state in (Phase.INTERRUPTED, Phase.PAUSED, Phase.WAITING):
        searching = any(t["search"] for t in trials if t["phase"] != Phase.DONE)
        word = "search" if searching else "launch"
        steps.append({"why": f"trials are {state}", "command": f"pcan sweep {word} {sweep}"})
    for trial in trials:
        if trial["retry"]:
            why = f"{trial['trial']} failed ({trial['cause']}); fix that first"
            steps.append({"why": why[:LONGEST], "command": trial["retry"]})
    if state == Phase.DONE and best is not None:
        if not best["confirmed"]:
            why = "one reading is partly luck; repeat on new seeds"
            steps.append({"why": why, "command": f"pcan sweep best {sweep} --confirm 2"})
        steps.append({"why": "export the winner", "command": f"pcan sweep best {sweep}"})
        steps.append({"why": "tables and figures", "command": f"pcan sweep report {sweep}"})
    if not steps:
        steps.append({"why": "no trial is complete", "command": f"pcan sweep status {sweep}"})
    return steps


def _avoid(status: Record, trials: Sequence[Record]) -> list[str]:
    """Return what would do harm now."""
    found = ["writing into runs/ or the storage by hand"]
    if _state(trials, status["best"]) == Phase.RUNNING:
        found.append(f"killing jobs; stop with: pcan sweep stop {status['sweep']}")
        found.append("changing the recipe of a running variant: its trial keeps the old one")
    best = status["best"]
    if best and not best["confirmed"]:
        found.append("calling the best reading a result: it is one seed")
    if status["not_comparable"]:
        found.append(str(status["not_comparable"])[:LONGEST])
    if any(trial["state"] == State.PRUNED for trial in trials):
        found.append("running a stopped variant again unchanged: its verdict would be the same")
    return found


def fitted(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record within its limit; lists say by `more` how many entries were left out."""
    order = ("real_differences", "running", "avoid", "next")
    left: dict[str, int] = {}
    while size(record) > MOST_BYTES:
        longest = next((key for key in order if len(record[key]) > 1), None)
        if longest is None:
            break
        record[longest] = record[longest][:-1]
        left[longest] = left.get(longest, 0) + 1
        record["more"] = left
    return record


def size(record: Record) -> int:
    """Return what the record measures as printed for a script, in bytes."""
    return len(json.dumps(record).encode()) + 1
