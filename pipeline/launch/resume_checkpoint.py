"""The checkpoint that a trial goes on from: the newest whole one; damaged ones are kept aside."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import NotReady
from pipeline.launch.trial_lease import TrialLease
from pipeline.plan.project import Project, relative
from pipeline.shared.counted import counted
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause


def checkpoint_to_resume(
    project: Project, rundir: RunDir, lease: TrialLease, ranks: int
) -> Path | None:
    """Return the checkpoint that a trial goes on from, None where it begins.

    With another number of ranks its batches and statistics would be others.
    """
    resume = newest_checkpoint(rundir)
    if resume is None:
        _refuse_to_start_over(project, rundir, lease)
        return None
    before = rundir.read_spec()
    if before is None or before.nproc in (None, ranks):
        return resume
    folder = relative(rundir.root, project.root)
    raise NotReady(
        f"{lease.name} was trained with job.gpus {before.nproc} up to {resume.stem}, and job.gpus "
        f"is {ranks} now, which would not be the same training. Its checkpoints are kept. Set "
        f"job.gpus back to {before.nproc} to go on; or, to train it from the beginning, move "
        f"{folder} away."
    )


def _refuse_to_start_over(project: Project, rundir: RunDir, lease: TrialLease) -> None:
    """Refuse to train epochs again that were measured but have no checkpoint."""
    trained = [m.epoch for m in rundir.read_measurements() if m.epoch > 0]
    if not trained:
        return
    raise NotReady(
        f"{lease.name} has measured {counted(trained[-1], 'epoch')}, but none "
        f"of its checkpoints in "
        f"{relative(rundir.checkpoints, project.root)} can be opened. Put one back; or, to train "
        f"it from the beginning, move {relative(rundir.root, project.root)} away."
    )


def newest_checkpoint(rundir: RunDir) -> Path | None:
    """Return the newest checkpoint whose file is complete; the job checks its content."""
    return next((file for file in _checkpoints(rundir) if _whole(file)), None)


def quarantine_checkpoint(rundir: RunDir, name: str) -> str | None:
    """Rename a checkpoint that the job rejected, so that the one before it is used.

    Returns:
        What was done, None if there is no such file any longer.
    """
    file = rundir.root / name
    if not file.exists():
        return None
    aside = file.with_suffix(".damaged")
    file.rename(aside)
    resume = newest_checkpoint(rundir)
    before = f"; {resume.name} is taken instead" if resume is not None else ""
    return f"{name} is damaged and is kept as {aside.name}{before}."


def quarantine_damaged(rundir: RunDir) -> list[str]:
    """Rename checkpoints that are cut short and newer than one that is whole.

    Returns:
        What was done, a line a file.
    """
    whole = newest_checkpoint(rundir)
    if whole is None:
        return []
    newer = [f for f in _checkpoints(rundir) if _epoch_of(f) > _epoch_of(whole)]
    lines = [quarantine_checkpoint(rundir, relative(file, rundir.root)) for file in newer]
    return [line for line in lines if line is not None]


def rejected_checkpoint(rundir: RunDir, earlier: Mapping[str, Any] | None) -> str | None:
    """Return the checkpoint that the last start rejected, if that is how it ended.

    Args:
        earlier: the content of its `outcome.json`; after a restart of the launcher the one that
            was killed before it could try an older checkpoint.
    """
    if earlier is None or earlier.get("cause") != Cause.BAD_CHECKPOINT:
        return None
    spec = rundir.read_spec()
    return spec.resume if spec else None


def _checkpoints(rundir: RunDir) -> list[Path]:
    """Return the trial's checkpoints, the newest first."""
    found = [f for f in rundir.checkpoints.glob("epoch_*.pth") if _epoch_of(f) > 0]
    return sorted(found, key=_epoch_of, reverse=True)


def _epoch_of(file: Path) -> int:
    digits = file.stem.removeprefix("epoch_")
    return int(digits) if digits.isdigit() else 0


def _whole(file: Path) -> bool:
    """Whether the file has the archive's directory, which is written last.

    Raises:
        NotReady: it cannot be read, which says nothing of its content.
    """
    try:
        with open(file, "rb") as stream:
            stream.read(1)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise NotReady(
            f"The checkpoint {file} cannot be read: {error.strerror}. Fix that, then run the same "
            "launch to go on."
        ) from None
    try:
        with zipfile.ZipFile(file) as archive:
            return bool(archive.namelist())
    except Exception:  # a directory with a changed byte raises nearly anything
        return False
