"""A trial that starts where a finished one ended: its epochs, weights and optimizer state.

Optuna cannot reopen a finished trial, so its record stays and a new trial of the study names it.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import NotReady
from pipeline.launch.control_files import audit_stamp
from pipeline.launch.resume_checkpoint import newest_checkpoint
from pipeline.launch.workdir import run_dir, wandb_id
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import make_private, write_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.study.add_trial import add_continuation
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow

_COPIED = ("measurements.jsonl", "verdicts.jsonl", "config.py", "facts.json")


def continue_as_new_trial(
    sweep: Sweep,
    project: Project,
    storage: Storage,
    row: TrialRow,
    overruled: Sequence[Mapping[str, Any]],
) -> int:
    """Enqueue a trial that goes on from a finished one; from its start if that has no checkpoint.

    Args:
        overruled: the verdicts that no longer stop it.

    Returns:
        The new trial's number.

    Raises:
        InputError: the recipe has changed since, or the trial is continued already.
        NotReady: the new run directory cannot be made.
    """
    old = run_dir(project, sweep.name, row.variant, row.number)
    with_epochs = newest_checkpoint(old) is not None
    decision = {"overruled": [dict(one) for one in overruled], **audit_stamp()}

    def fill(number: int, uid: str) -> None:
        new = run_dir(project, sweep.name, row.variant, number)
        try:
            _fill(old, new, with_epochs)
        except OSError as error:
            where = relative(new.root, project.root)
            raise NotReady(
                f"{where} cannot be made: {error.strerror or error}. Fix that, then run the same "
                "command again."
            ) from None
        write_json(new.spec, _continued_spec(old, row.name, number, uid).to_json())
        write_json(new.overruled, {"schema": 1, **decision})

    history = old.read_measurements() if with_epochs else []
    return add_continuation(sweep, storage, row, history, decision, fill)


def _continued_spec(old: RunDir, name: str, number: int, uid: str) -> TrialSpec:
    spec = old.read_spec() or TrialSpec()
    return dataclasses.replace(
        spec,
        number=number,
        trial=uid,
        continues=name,
        wandb={**spec.wandb, "id": wandb_id(uid, number)},
        created=None,
    )


def _fill(old: RunDir, new: RunDir, with_epochs: bool) -> None:
    """Copy what the old run directory ended with to the new one; large files as hard links."""
    make_private(new.checkpoints.parent)
    new.checkpoints.mkdir(mode=0o700)
    for name in _COPIED if with_epochs else ("config.py",):
        if (old.root / name).is_file():
            shutil.copy2(old.root / name, new.root / name)
    if not with_epochs:
        return
    for file in sorted(old.checkpoints.glob("epoch_*.pth")):
        _link(file, new.checkpoints / file.name)
    new.predictions.mkdir(exist_ok=True)
    for file in sorted(old.predictions.glob("*_*.bin")):
        _link(file, new.predictions / file.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
