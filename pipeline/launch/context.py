"""What a launch works with: its order, its facts, its schedule, the scheduler's job around it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipeline.job.process import Command
from pipeline.job.resolve import Resolution
from pipeline.job.slots import Slot
from pipeline.job.torch_tools import interpreter, job_env
from pipeline.launch.reporters import Reporter
from pipeline.plan.ladder import LadderState
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.study.claim import ClaimRequest
from pipeline.study.db.storage import Storage
from pipeline.study.stages import Stages
from pipeline.study.trial_rows import TrialRow, read_board


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOrder:
    """What a search was asked for.

    Args:
        variant: whose space is searched.
        trials: how many the search has in all, those of earlier commands too.
        gpu_hours: what it may spend in all.
    """

    variant: str
    trials: int
    gpu_hours: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOrder:
    """What a launch was asked to run.

    Args:
        policy: "ladder" or "all"; ignored where variants are named.
        variants: named variants, in order.
        trials: trials per study; 1 is the recipe alone.
        confirms: trials whose repetitions on other seeds are run, and nothing else.
        search: search instead of the plan; everything else is ignored.
    """

    policy: str = "ladder"
    variants: tuple[str, ...] = ()
    trials: int = 1
    confirms: tuple[str, ...] = ()
    search: SearchOrder | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a launch is to run now.

    Args:
        requests: the trials to claim, the most urgent first.
        why: why the launch ends once none is left, in words.
        step: where the ladder is, in a launch that follows it.
        to_prune: paused trials of a search that its rule does not let resume.
        failed: wanted trials that have failed, in this launch or in an earlier one.
    """

    requests: tuple[ClaimRequest, ...]
    why: str = ""
    step: LadderState | None = None
    to_prune: tuple[TrialRow, ...] = ()
    failed: tuple[str, ...] = ()


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


class EnclosingJob(Protocol):
    """A job of a scheduler; `pipeline.cluster` implements it and the command passes it in."""

    @property
    def id(self) -> str:
        """The scheduler's name for it."""

    @property
    def warning_s(self) -> float:
        """How long before its time limit the scheduler sends SIGUSR1."""

    def requeue(self, epochs: int, reporter: Reporter) -> bool:
        """Have the job started again later, if it has finished epochs.

        Returns:
            Whether the scheduler now ends this process.
        """

    def record(self) -> dict[str, Any]:
        """Return what the trial's row keeps of it."""
