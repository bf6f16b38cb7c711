"""`pcan sweep clean`: delete checkpoints that are no longer needed.

Only files in `checkpoints/` of trials that ended and did not win. Measurements stay, and so do the
checkpoints of the best trial, of resumable trials, of makers of starting weights and of trials
that a later stage starts from.
"""

import dataclasses
import stat
from collections.abc import Sequence
from pathlib import Path

from pipeline.launch.workdir import escaping_symlink, run_dir
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.shared.rundir import RunDir
from pipeline.study.best import best_candidate, best_row, confirmations, eligible_groups
from pipeline.study.db.storage import Storage
from pipeline.study.stages import Stages
from pipeline.study.trial_rows import TrialRow, read_board


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deletable:
    """An ended trial that did not win, and the checkpoints it left."""

    trial: str
    state: str
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """The size of its files, those included that a continuing trial links to."""
        return sum(file.lstat().st_size for file in self.files)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanupPlan:
    """What can be, or was, deleted.

    Args:
        freed: bytes that become free; less than the sizes where files are shared.
        kept: the trial whose checkpoints are kept as the best.
        stages: the ended trials whose checkpoints are kept for a later stage.
    """

    deletable: tuple[Deletable, ...]
    freed: int
    kept: str | None
    stages: tuple[str, ...] = ()


def find_deletable(sweep: Sweep, project: Project, rows: Sequence[TrialRow]) -> CleanupPlan:
    """Return what may be deleted, without deleting it."""
    winner = best_row(sweep, rows) or _best_partial(sweep, rows)
    beside = [best_candidate(group, rows) for group in eligible_groups(sweep, rows)[1:]]
    unconfirmed = {name for name, one in confirmations(rows).items() if one.pending}
    needed = Stages(sweep, rows).needed()
    deletable = []
    for row in rows:
        if not row.finished or row in (winner, *beside) or row.variant in sweep.makers:
            continue
        if row.name in unconfirmed or row.name in needed:  # a mean may make it the winner
            continue
        rundir = run_dir(project, sweep.name, row.variant, row.number)
        files = _checkpoints(rundir)
        if files and escaping_symlink(project.runs, rundir.root) is None:
            deletable.append(Deletable(trial=row.name, state=row.state, files=files))
    return CleanupPlan(
        deletable=tuple(deletable),
        freed=_freed([file for trial in deletable for file in trial.files]),
        kept=winner.name if winner is not None else None,
        stages=tuple(sorted(needed & {row.name for row in rows if row.finished})),
    )


def clean(sweep: Sweep, project: Project, storage: Storage) -> CleanupPlan:
    """Delete the checkpoints, under the lock that claiming and continuing a trial need too.

    Raises:
        StorageError: the storage cannot be read; then nothing is deleted.
    """
    with storage.lock():
        plan = find_deletable(sweep, project, read_board(sweep.name, storage))
        for trial in plan.deletable:
            for file in trial.files:
                file.unlink(missing_ok=True)
    return plan


def _best_partial(sweep: Sweep, rows: Sequence[TrialRow]) -> TrialRow | None:
    """Return the best measured trial, for a sweep without a complete one."""
    measured = [r for r in rows if r.best_top1 is not None and r.is_regular]
    measured = [r for r in measured if r.variant not in sweep.makers]
    return max(measured, key=lambda row: row.best_top1 or 0.0, default=None)


def _checkpoints(rundir: RunDir) -> tuple[Path, ...]:
    """Return the checkpoint files of a trial: regular files in a folder that is not a link."""
    folder = rundir.checkpoints
    if folder.is_symlink() or not folder.is_dir():
        return ()
    names = [*folder.glob("epoch_*"), *folder.glob(".epoch_*")]
    return tuple(sorted(file for file in names if stat.S_ISREG(file.lstat().st_mode)))


def _freed(files: Sequence[Path]) -> int:
    """Return the bytes that become free: of files whose every name is deleted."""
    size: dict[tuple[int, int], int] = {}
    names_left: dict[tuple[int, int], int] = {}
    for file in files:
        status = file.lstat()
        inode = (status.st_dev, status.st_ino)
        size[inode] = status.st_size
        names_left[inode] = names_left.get(inode, status.st_nlink) - 1
    return sum(size[inode] for inode, left in names_left.items() if left == 0)
