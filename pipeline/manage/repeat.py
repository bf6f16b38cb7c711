"""Repeat the best trials of a sweep on new seeds: `pcan sweep best --confirm`.

The repetitions are trials like any others, run by the same launch. They carry out exactly what the
first one did, from its own recorded config, with another seed; the gates are silent, since a mean
over the seeds that passed would be too high.
"""

import dataclasses
import shutil
from collections.abc import Sequence

from pipeline.errors import InputError, NoResult, NotReady
from pipeline.launch.overrulings import audit_stamp
from pipeline.launch.workdir import run_dir, wandb_id
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import write_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.study.add_trial import add_repetition
from pipeline.study.best import confirmations, eligible
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow, read_board


def repetitions(
    sweep: Sweep, project: Project, storage: Storage, count: int, seeds: int
) -> dict[str, tuple[TrialRow, list[int]]]:
    """Return the best trials, best reading first, and the seeds each has yet to be repeated on.

    Args:
        count: how many of the best trials.
        seeds: repetitions of each, those that were run or begun before included.

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
    """Make sure that each of the best trials has so many repetitions; safe to repeat.

    Args:
        count, seeds: as in `repetitions`.

    Returns:
        The names of the trials that are confirmed, and how many repetitions are new.
    """
    wanted = repetitions(sweep, project, storage, count, seeds)
    for row, missing in wanted.values():
        for seed in missing:
            _enqueue(sweep, project, storage, row, seed)
    return list(wanted), sum(len(missing) for _, missing in wanted.values())


def _check(sweep: Sweep, project: Project, row: TrialRow) -> None:
    """Refuse to repeat what cannot be repeated, before anything is enqueued."""
    if row.variant not in sweep.variants:
        raise InputError(
            f"{row.name} cannot be repeated: {sweep.shown_path} has no variant {row.variant} any "
            "more. Put it back, then confirm again."
        )
    old = run_dir(project, sweep.name, row.variant, row.number)
    if not (old.spec.is_file() and old.config.is_file()):
        raise NoResult(
            f"{row.name} has no run directory here ({relative(old.root, project.root)}); it lies "
            f"on {row.host or 'another machine'}. Confirm it there."
        )


def _seeds(
    project: Project, sweep: Sweep, row: TrialRow, runs: Sequence[TrialRow], wanted: int
) -> list[int]:
    """Return the seeds of the repetitions that are missing: the next ones after those used."""
    old = run_dir(project, sweep.name, row.variant, row.number)
    first = (old.read_spec() or TrialSpec()).seed or 0
    used = [first, *(int(run.facts.get("seed") or 0) for run in runs)]
    return [max(used) + 1 + i for i in range(max(0, wanted - len(runs)))]


def _enqueue(sweep: Sweep, project: Project, storage: Storage, row: TrialRow, seed: int) -> None:
    old = run_dir(project, sweep.name, row.variant, row.number)

    def fill(number: int, uid: str) -> None:
        new = run_dir(project, sweep.name, row.variant, number)
        try:
            _fill(old, new, row, seed, number, uid)
        except OSError as error:
            raise NotReady(
                f"{relative(new.root, project.root)} cannot be made: {error.strerror or error}. "
                "Mend that, then run the same command."
            ) from None

    add_repetition(sweep, storage, row, seed, audit_stamp(), fill)


def _fill(old: RunDir, new: RunDir, row: TrialRow, seed: int, number: int, uid: str) -> None:
    """Write what the launch will run: the first trial's own config, whatever the file says now."""
    new.checkpoints.mkdir(mode=0o700, parents=True, exist_ok=True)
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
