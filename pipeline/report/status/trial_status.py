"""Where a sweep stands: one record for scripts, one table for people. Reads only."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.project import Project
from pipeline.plan.sweep import Gate, Sweep, Variant
from pipeline.report.stats.comparability import apart_rows, store_of
from pipeline.report.stats.reading_error import clips_of, reading_error
from pipeline.report.status.run_dir_index import RunDirIndex
from pipeline.shared.states import Kind
from pipeline.study.best import Confirmation, best_row, settled
from pipeline.study.db.storage import Storage
from pipeline.study.gpu_hours import job_seconds
from pipeline.study.owner import shown_host
from pipeline.study.trial_rows import TrialRow, read_board, study_name
from pipeline.track.sync_state import untracked, wandb_state


def status_record(
    sweep: Sweep, project: Project, storage: Storage, jobs: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return what `status --json` prints; trials of variants that left the file are kept.

    Args:
        jobs: those that wait or run with a scheduler, as it tells them.
    """
    rows = read_board(sweep.name, storage)
    run_by = {_job_id(row): row.name for row in rows if row.phase == "running"}
    folders = RunDirIndex(project.root)
    trials: dict[str, list[dict[str, Any]]] = {name: [] for name in sweep.variants}
    for row in rows:
        mine = trials.setdefault(row.variant, [])
        if not row.superseded:
            mine.append(trial_record(row, sweep, project, folders.has(row.run_dir)))
    winner, done = best_row(sweep, rows), settled(rows)
    return {
        "schema": 1,
        "sweep": sweep.name,
        "studies": [
            {
                "variant": name,
                "study": study_name(sweep, name),
                "plan": sweep.variants[name].plan if name in sweep.variants else None,
                "trials": found,
            }
            for name, found in trials.items()
        ],
        "jobs": [{**job, "trial": run_by.get(job["id"])} for job in jobs],
        "goal": sweep.objective.goal,
        "not_comparable": apart_rows(rows, sweep.makers),
        "best": None
        if winner is None
        else {
            "variant": winner.variant,
            "number": winner.number,
            "top1": winner.best_top1,
            "epoch": winner.best_epoch,
            "std_error": reading_error(winner.best_top1, clips_of(winner, project.root)),
            "confirmed": _confirmed(done.get(winner.name)),
        },
    }


def _confirmed(found: Confirmation | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"mean": found.mean, "spread": found.spread, "seeds": len(found.values)}


def trial_record(row: TrialRow, sweep: Sweep, project: Project, seen: bool) -> dict[str, Any]:
    """Return one trial as `status --json` shows it.

    Args:
        seen: its run directory is there; otherwise the storage has to do.
    """
    variant = sweep.variants.get(row.variant)
    gate = _next_gate(variant, row)
    clips = clips_of(row, project.root if seen else None)
    return {
        "number": row.number,
        "state": row.state,
        "epochs": row.epoch,
        "best_top1": row.best_top1,
        "best_epoch": row.best_epoch,
        "std_error": reading_error(row.best_top1, clips),
        "val_clips": clips,
        "last_top1": row.last_top1,
        "lr": row.lr,
        "params": dict(row.params),
        "phase": row.phase,
        "reason": row.reason,
        "cause": row.cause,
        "verdicts": [dict(v) for v in row.verdicts],
        "next_gate": dataclasses.asdict(gate) if gate is not None else None,
        "eta_s": eta_s(row, sweep),
        "gpu_hours": round(gpu_hours(row), 4),
        "host": shown_host(row.host) if row.host else None,
        "gpus": row.gpus,
        "attempts": row.attempt,
        "job": row.facts.get("job"),
        "continues": row.continues,
        "search": row.facts.get("search"),
        **{f"data_{key}": value for key, value in store_of(row.facts.get("data")).items()},
        "confirms": row.confirms,
        "seed": row.facts.get("seed"),
        "imported": row.facts.get("imported"),
        "chosen": row.facts.get("chosen"),
        "wandb": _wandb(row, project) if seen else untracked() if row.run_dir else None,
        "run_dir": row.run_dir,
        "run_dir_host": None if seen or row.here else shown_host(row.host or ""),
    }


def _wandb(row: TrialRow, project: Project) -> dict[str, Any]:
    return wandb_state(project.root / str(row.run_dir))


def _job_id(row: TrialRow) -> str | None:
    return (row.facts.get("job") or {}).get("id")


def total_epochs(row: TrialRow, sweep: Sweep) -> int | None:
    """Return how many epochs the trial has in all, None before its first start if unknown."""
    epochs = row.facts.get("epochs")
    if isinstance(epochs, int):
        return epochs
    variant = sweep.variants.get(row.variant)
    return variant.epochs if variant is not None else None


def gpu_hours(row: TrialRow) -> float:
    """Return the GPU hours spent on this trial (on the CPU: process hours)."""
    return job_seconds(row) * int(row.facts.get("nproc", 0)) / 3600


def eta_s(row: TrialRow, sweep: Sweep) -> float | None:
    """Return the seconds that a running trial still needs if nothing stops it."""
    epochs = total_epochs(row, sweep)
    if row.phase != "running" or epochs is None:
        return None
    if row.epoch > 0:
        per_epoch = job_seconds(row) / row.epoch
    elif sweep.job.epoch_minutes is not None:
        per_epoch = 60 * sweep.job.epoch_minutes
    else:
        return None
    return round(max(0, epochs - row.epoch) * per_epoch, 1)


def _next_gate(variant: Variant | None, row: TrialRow) -> Gate | None:
    if variant is None or row.phase == "done" or row.kind is Kind.SEARCH:
        return None
    return next((gate for gate in variant.gates if gate.epoch > row.epoch), None)
