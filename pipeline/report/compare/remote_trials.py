"""Trials whose run directories lie on other hosts, for the comparison: what the storage knows."""

from collections.abc import Sequence
from typing import Any

from pipeline.plan.project import Project
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow

_CURVES = """
SELECT v.trial_id, v.step, v.intermediate_value AS top1
FROM trial_intermediate_values AS v JOIN pcan_trials AS p ON p.trial_id = v.trial_id
WHERE p.sweep = :sweep ORDER BY v.trial_id, v.step
"""


def distant_trials(
    sweep: str, rows: Sequence[TrialRow], project: Project, storage: Storage
) -> list[dict[str, Any]]:
    """Return the trials that only other hosts have in full, as `compare.collect` shows trials.

    Their top-1 by epoch is in the storage; branches, losses and configs stay where they ran.
    """
    away = {row.trial_id: host for row in rows if (host := row.remote_host(project.root))}
    if not away:
        return []
    curves: dict[int, list[tuple[int, float | None]]] = {}
    for point in storage.read(_CURVES, sweep=sweep):
        curves.setdefault(point["trial_id"], []).append((point["step"], point["top1"]))
    mine = [row for row in rows if row.trial_id in away and not row.superseded]
    return [_trial(row, away[row.trial_id], curves.get(row.trial_id, [])) for row in mine]


def _trial(row: TrialRow, host: str, curve: Sequence[tuple[int, float | None]]) -> dict[str, Any]:
    nothing = [None] * len(curve)
    reason = f": {row.reason}" if row.reason else ""
    return {
        "id": row.name,
        "variant": row.variant,
        "number": row.number,
        "recipe": row.recipe_hash is not None or row.number == 0,
        "plan": None,
        "state": row.state,
        "phase": row.phase,
        "std_error": None,
        "clips": None,
        "predictions": False,
        "imported": None,
        "confirms": row.confirms,
        "cause": row.cause,
        "reason": f"run directory on {host}{reason}",
        "planned": row.facts.get("epochs"),
        "attempts": row.attempt,
        "gpu_hours": round(row.seconds * int(row.facts.get("nproc") or 1) / 3600, 3),
        "params": dict(row.params),
        "config": {},
        "verdicts": [dict(verdict) for verdict in row.verdicts],
        "wandb": None,
        "host": host,
        "epochs": [step for step, _ in curve],
        "top1": [top1 for _, top1 in curve],
        "rgb": nothing,
        "pose": nothing,
        "lr": nothing,
        "loss": nothing,
    }
