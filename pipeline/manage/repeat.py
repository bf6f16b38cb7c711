"""What `pcan sweep best` puts on record: repetitions (`--confirm`) and a choice (`--trial`).

Repetitions are trials like any others, run by the same launch. They run the first trial's own
recorded config with another seed; the gates do not apply, since a mean over the seeds that passed
would be too high.
"""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import InputError, NoResult, NotReady
from pipeline.launch.control_files import audit_stamp
from pipeline.launch.workdir import run_dir, wandb_id
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import make_private, write_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.study.add_trial import add_repetition
from pipeline.study.audit import record_manual_export
from pipeline.study.best import RepeatedRun, confirmations, eligible
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow, read_board


def repetitions(
    sweep: Sweep, project: Project, storage: Storage, count: int, seeds: int
) -> dict[str, tuple[TrialRow, list[int]]]:
    """Return the best trials, best reading first, and the seeds each has yet to be repeated on.

    Args:
        count: how many of the best trials.
        seeds: repetitions of each, earlier ones included.

    Raises:
        NoResult: a trial's run directory is not here.
        InputError: a trial's variant has left the sweep file.
    """
    rows = read_board(sweep.name, storage)
    chosen, known = eligible(sweep, rows)[:count], confirmations(rows)
    for row in chosen:
        _check(sweep, project, row)
    runs = {row.name: known[row.name].runs if row.name in known else () for row in chosen}
    return {r.name: (r, _seeds(project, sweep, r, runs[r.name], seeds)) for r in chosen}


def enqueue_confirmations(
    sweep: Sweep, project: Project, storage: Storage, count: int, seeds: int
) -> tuple[list[str], int]:
    """Enqueue the repetitions that the best trials still lack; safe to repeat.

    Args:
        count, seeds: as in `repetitions`.

    Returns:
        The names of the trials, and how many repetitions are new.
    """
    planned = repetitions(sweep, project, storage, count, seeds)
    for row, missing in planned.values():
        for seed in missing:
            _enqueue(sweep, project, storage, row, seed)
    return list(planned), sum(len(missing) for _, missing in planned.values())


def _check(sweep: Sweep, project: Project, row: TrialRow) -> None:
    """Refuse to repeat what cannot be repeated, before anything is enqueued."""
    if row.variant not in sweep.variants:
        raise InputError(
            f"{row.name} cannot be repeated: {sweep.shown_path} no longer has the "
            f"variant {row.variant}. Put it back, then confirm again."
        )
    old = run_dir(project, sweep.name, row.variant, row.number)
    if not (old.spec.is_file() and old.config.is_file()):
        raise NoResult(
            f"{row.name} has no run directory here ({relative(old.root, project.root)}); it lies "
            f"on {row.host or 'another machine'}. Confirm it there."
        )


def _seeds(
    project: Project, sweep: Sweep, row: TrialRow, runs: Sequence[RepeatedRun], count: int
) -> list[int]:
    """Return the seeds of the repetitions that are missing: the next ones after those used."""
    old = run_dir(project, sweep.name, row.variant, row.number)
    first = (old.read_spec() or TrialSpec()).seed or 0
    used = [first, *(int(run.facts.get("seed") or 0) for run in runs)]
    return [max(used) + 1 + i for i in range(max(0, count - len(runs)))]


def _enqueue(sweep: Sweep, project: Project, storage: Storage, row: TrialRow, seed: int) -> None:
    old = run_dir(project, sweep.name, row.variant, row.number)

    def fill(number: int, uid: str) -> None:
        new = run_dir(project, sweep.name, row.variant, number)
        try:
            _fill(old, new, row, seed, number, uid)
        except OSError as error:
            raise NotReady(
                f"{relative(new.root, project.root)} cannot be made: {error.strerror or error}. "
                "Fix that, then run the same command again."
            ) from None

    add_repetition(sweep, storage, row, seed, audit_stamp(), fill)


def _fill(old: RunDir, new: RunDir, row: TrialRow, seed: int, number: int, uid: str) -> None:
    """Write what the launch will run: the first trial's own config, whatever the file says now."""
    make_private(new.checkpoints)
    shutil.copy2(old.config, new.config)
    spec = old.read_spec() or TrialSpec()
    spec = dataclasses.replace(
        spec,
        number=number,
        trial=uid,
        continues=None,
        confirms=row.name,
        search=None,  # a search neither stops nor pauses it
        seed=seed,
        recipe_hash=None,
        resume=None,
        wandb={**spec.wandb, "id": wandb_id(uid, number)},
        created=None,
    )
    write_json(new.spec, spec.to_json())


def record_manual_choice(
    sweep: Sweep, project: Project, storage: Storage, row: TrialRow, chosen: Mapping[str, Any]
) -> None:
    """Record in the storage and in the run directory who chose a trial for export.

    Args:
        chosen: who, where, when, and instead of which trial.
    """
    choices = record_manual_export(sweep, storage, row, chosen)
    if row.run_dir:
        path = RunDir(project.root / row.run_dir).chosen
        write_json(path, {"schema": 1, "chosen": choices})
