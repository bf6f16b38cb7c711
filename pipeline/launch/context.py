"""The facts of a launch, and the holder of those that hold now."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.job.process import Command
from pipeline.job.resolve import Resolution
from pipeline.job.slots import Slot
from pipeline.job.torch_tools import interpreter, job_env
from pipeline.launch.orders import RunOrder
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.study.db.storage import Storage
from pipeline.study.stages import Stages
from pipeline.study.trial_rows import TrialRow, read_board


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchContext:
    """The facts of a launch.

    Args:
        storage: None for a job without a study.
        sets: machine facts by config path (`--set`).
        resolution: every variant's resolved recipe.
        courses: true lr by variant, as far as it is known.
        tracking: what the tracker needs in each trial's spec.
    """

    sweep: Sweep
    project: Project
    storage: Storage | None
    order: RunOrder
    slots: Sequence[Slot]
    sets: Mapping[str, Any]
    data_root: str | None
    resolution: Resolution
    courses: Mapping[str, Sequence[float]]
    tracking: Mapping[str, Any]

    @property
    def study_storage(self) -> Storage:
        """The storage of a launch that has studies."""
        assert self.storage is not None
        return self.storage

    def recipes(self, rows: Sequence[TrialRow]) -> dict[str, str]:
        """Return the digest of each variant's present recipe; stages that wait have none.

        Args:
            rows: the sweep's trials, which decide what a stage starts from.
        """
        return Stages(self.sweep, rows, self.resolution.hashes).recipes()

    def command(self, slot: Slot) -> Command:
        """Return how a job on this slot is started."""
        job, root = self.sweep.job, self.project.root
        return Command(
            python=interpreter(job, root),
            nproc=job.gpus,
            cwd=root,
            env=job_env(job, root),
            visible=slot.visible,
        )

    def rows(self) -> list[TrialRow]:
        """Return the sweep's trials as the storage has them now."""
        return read_board(self.sweep.name, self.study_storage)


@dataclasses.dataclass
class CurrentContext:
    """Holds the context that is valid now; a changed sweep file replaces it during a launch."""

    value: LaunchContext
