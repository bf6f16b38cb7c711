"""Where a sweep stands, as one record: what `pcan sweep status --json` prints. Reads only."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.gates import next_gate
from pipeline.plan.ladder import retry_command
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.report.progress import row_gpu_hours, row_seconds_left
from pipeline.report.stats.readings import clips_of, incomparable_rows, reading_error, store_of
from pipeline.report.stats.repetitions import confirmation_record
from pipeline.shared.files import read_objects
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import USUAL_PRECISION
from pipeline.shared.states import Kind, Phase, State, is_repairable
from pipeline.study.best import Confirmation, best_row, settled
from pipeline.study.db.storage import Storage
from pipeline.study.owner import shown_host
from pipeline.study.searches import outlooks
from pipeline.study.stages import Stages
from pipeline.study.trial_rows import TrialRow, read_board, study_name
from pipeline.track.sync_state import untracked, wandb_state

#: Trials whose courses are drawn; a longer table is not read by its curves.
MOST_COURSES = 200


def status_record(
    sweep: Sweep,
    project: Project,
    storage: Storage,
    jobs: Sequence[Mapping[str, Any]] = (),
    command: str = "",
) -> dict[str, Any]:
    """Return what `status --json` prints; trials of variants that left the file are kept.

    Args:
        command: that of the launch that was started last, as typed.
        jobs: those that wait or run with a scheduler, as `ClusterJob.record` returns them.
    """
    rows = read_board(sweep.name, storage)
    running = {_job_id(row): row.name for row in rows if row.phase == Phase.RUNNING}
    return {
        "schema": 1,
        "sweep": sweep.name,
        "studies": _studies(sweep, project, rows),
        "jobs": [{**job, "trial": running.get(job["id"])} for job in jobs],
        "goal": sweep.objective.goal,
        "command": command or None,
        "not_comparable": incomparable_rows(sweep, rows),
        "best": _best(sweep, project, rows),
        "confirmation": confirmation_record(sweep, rows, project.root),
        "searches": [one.record() for one in outlooks(sweep, rows)],
    }


def courses(record: Mapping[str, Any], root: Path) -> dict[str, list[float | None]]:
    """Return top-1 by epoch of the first trials whose run directories are seen from here."""
    trials = [(s["variant"], trial) for s in record["studies"] for trial in s["trials"]]
    found: dict[str, list[float | None]] = {}
    for variant, trial in trials[:MOST_COURSES]:
        if trial["run_dir"] and not trial["run_dir_host"]:
            history = RunDir(root / trial["run_dir"]).read_measurements()
            found[f"{variant}/{trial['number']}"] = [m.top1 for m in history if m.epoch > 0]
    return found


def status_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what `status --csv` prints: a row a trial, figures as in the record."""
    lists = (
        "verdicts",
        "next_gate",
        "search",
        "imported",
        "chosen",
        "wandb",
        "job",
        "phase",
        "stage",
    )
    return [
        {
            "trial": f"{study['variant']}/{trial['number']}",
            "state": trial["state"],
            "phase": trial["phase"],
            **{key: value for key, value in trial.items() if key not in lists},
        }
        for study in record["studies"]
        for trial in study["trials"]
    ]


def _studies(sweep: Sweep, project: Project, rows: Sequence[TrialRow]) -> list[dict[str, Any]]:
    folders = _RunDirs(project.root)
    stages = Stages(sweep, rows)
    waiting, old = stages.waiting(), stages.old()
    retries = _retries(sweep, rows)
    trials: dict[str, list[dict[str, Any]]] = {name: [] for name in sweep.variants}
    for row in rows:
        of_variant = trials.setdefault(row.variant, [])
        if not row.superseded:
            record = _trial(row, sweep, project, folders.has(row.run_dir))
            stage = _stage(row, old.get(row.name))
            of_variant.append({**record, "stage": stage, "retry": retries.get(row.name)})
    return [
        {
            "variant": name,
            "study": study_name(sweep, name),
            "plan": sweep.variants[name].plan if name in sweep.variants else None,
            "waits": waiting.get(name),
            "trials": records,
        }
        for name, records in trials.items()
    ]


def _stage(row: TrialRow, old: str | None) -> dict[str, Any] | None:
    """Return what a trial of a later stage began with, and why it is old if it is."""
    began = row.facts.get("stage")
    if not began:
        return None
    return {**{key: began.get(key) for key in ("of", "trial", "epoch", "top1")}, "old": old}


def _retries(sweep: Sweep, rows: Sequence[TrialRow]) -> dict[str, str]:
    """Return, by trial, the command that runs a failed recipe again."""
    recipes = {row.variant: row for row in rows if row.recipe_hash and row.is_regular}
    return {
        row.name: retry_command(sweep.name, name)
        for name, row in recipes.items()
        if name in sweep.variants and row.state == State.FAIL and is_repairable(row.cause)
    }


def _trial(row: TrialRow, sweep: Sweep, project: Project, seen: bool) -> dict[str, Any]:
    """Return one trial as `status --json` shows it.

    Args:
        seen: its run directory is there; otherwise only the storage is asked.
    """
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
        "label_mismatch": _label_mismatch(row, project, seen),
        "next_gate": _next_gate(row, sweep),
        "eta_s": row_seconds_left(row, sweep),
        "gpu_hours": round(row_gpu_hours(row), 4),
        "host": shown_host(row.host) if row.host else None,
        "gpus": row.gpus,
        "attempts": row.attempt,
        "job": row.facts.get("job"),
        "continues": row.continues,
        "search": row.facts.get("search"),
        **_store(row),
        "precision": row.facts.get("precision") or USUAL_PRECISION,
        "confirms": row.confirms,
        "seed": row.facts.get("seed"),
        "imported": row.facts.get("imported"),
        "chosen": row.facts.get("chosen"),
        "hardware": _hardware(row, project, seen),
        "wandb": _wandb(row, project, seen),
        "run_dir": row.run_dir,
        "run_dir_host": None if seen or row.here else shown_host(row.host or ""),
    }


def _store(row: TrialRow) -> dict[str, Any]:
    return {f"data_{key}": value for key, value in store_of(row.facts.get("data")).items()}


def _next_gate(row: TrialRow, sweep: Sweep) -> dict[str, Any] | None:
    """Return the gate ahead; a trial of a search is judged by the search's own rule."""
    variant = sweep.variants.get(row.variant)
    if variant is None or row.phase == Phase.DONE or row.kind is Kind.SEARCH:
        return None
    gate = next_gate(variant.gates, row.epoch)
    return gate.record() if gate is not None else None


def _wandb(row: TrialRow, project: Project, seen: bool) -> dict[str, Any] | None:
    if seen:
        return wandb_state(project.root / str(row.run_dir))
    return untracked() if row.run_dir else None


def _hardware(row: TrialRow, project: Project, seen: bool) -> dict[str, Any] | None:
    """Return the parts of a running trial's last epoch and what its GPUs did, if measured."""
    run = RunDir(project.root / str(row.run_dir))
    measured = run.read_measurements() if seen and row.phase == Phase.RUNNING else []
    if not measured or not measured[-1].times:
        return None
    last = measured[-1]
    gpus = [r.get("gpus") for r in read_objects(run.gpus) if r.get("epoch") == last.epoch]
    return {"epoch": last.epoch, "times": last.times, "gpus": gpus[-1] if gpus else []}


def _label_mismatch(row: TrialRow, project: Project, seen: bool) -> dict[str, Any] | None:
    """Return the newest epoch whose predictions fit other labels better, and how."""
    audits = RunDir(project.root / str(row.run_dir)).read_labels() if seen else []
    if not audits or not audits[-1].get("findings"):
        return None
    sentences = [str(one.get("sentence")) for one in audits[-1]["findings"]]
    return {"epoch": audits[-1].get("epoch"), "sentence": "; ".join(sentences)}


def _job_id(row: TrialRow) -> str | None:
    return (row.facts.get("job") or {}).get("id")


def _best(sweep: Sweep, project: Project, rows: Sequence[TrialRow]) -> dict[str, Any] | None:
    winner = best_row(sweep, rows)
    if winner is None:
        return None
    return {
        "variant": winner.variant,
        "number": winner.number,
        "top1": winner.best_top1,
        "epoch": winner.best_epoch,
        "std_error": reading_error(winner.best_top1, clips_of(winner, project.root)),
        "confirmed": _confirmed(settled(rows).get(winner.name)),
    }


def _confirmed(repeated: Confirmation | None) -> dict[str, Any] | None:
    if repeated is None:
        return None
    return {"mean": repeated.mean, "spread": repeated.spread, "seeds": len(repeated.values)}


class _RunDirs:
    """The run directories below a project; each folder is listed once, not once a trial."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._names: dict[str, frozenset[str]] = {}

    def has(self, run_dir: str | None) -> bool:
        """Return whether a run directory, as the storage names it, is seen from here."""
        if run_dir is None:
            return False
        parent, _, name = run_dir.rpartition("/")
        if parent not in self._names:
            try:
                self._names[parent] = frozenset(os.listdir(os.path.join(self._root, parent)))
            except OSError:
                self._names[parent] = frozenset()
        return name in self._names[parent]
