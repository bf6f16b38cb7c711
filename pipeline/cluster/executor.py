"""A scheduler of jobs on other machines: the interface it is used by, and the registry of names.

A cluster job is a place with the GPUs of one trial. It runs an ordinary launch of one slot
(`pcan sweep launch --in-job`), which claims trials until none is left and then ends. So the
scheduler decides where and when; the lease decides which trial, and whether it still is ours.
"""

import abc
import dataclasses
import enum
import hashlib
import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep

if TYPE_CHECKING:
    from pipeline.launch.reporters import Reporter
    from pipeline.study.db.storage import Storage

#: How long a job whose trial has ended may take to leave by itself.
LEAVE_S = 20.0
#: Executors by the name that `--on` takes, as MODULE:CLASS. They are imported when they are used.
EXECUTORS = {"slurm": "pipeline.cluster.slurm:SlurmExecutor"}


class JobPhase(enum.Enum):
    """Pending and running jobs still count as places; ended ones do not."""

    PENDING = enum.auto()
    RUNNING = enum.auto()
    ENDED = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterJob:
    """A job as its scheduler reports it.

    Args:
        id: the scheduler's name for it.
        state: the scheduler's own word, for messages only.
        reason: why it is pending, in the scheduler's word; "" where there is none.
        node: where it runs or ran.
        exit_code: of its command, negative for a signal; None while it is not known.
        exited: the command ended by itself, so that `exit_code` is its own.
        cancelled: a user has ended it.
        output_failed: the node could not open the job's output file.
        digest: of the command that it runs (`command_digest`).
    """

    id: str
    phase: JobPhase
    state: str
    reason: str = ""
    node: str = ""
    exit_code: int | None = None
    exited: bool = False
    cancelled: bool = False
    output_failed: bool = False
    digest: str = ""

    def record(self) -> dict[str, Any]:
        """Return the job as `status --json` shows it."""
        return {"id": self.id, "state": self.state, "reason": self.reason, "node": self.node}


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobEnvironment(abc.ABC):
    """The cluster job that this process runs in.

    Args:
        restarts: how often the scheduler has started it again.
        warning_s: how long before its time limit the scheduler sends SIGUSR1.
    """

    engine: str
    id: str
    restarts: int
    warning_s: float

    @staticmethod
    def detect(sweep: Sweep) -> "JobEnvironment | None":
        """Return the job that this process runs in, None outside of every scheduler."""
        jobs = (executor_class(name).environment(sweep) for name in EXECUTORS)
        return next((job for job in jobs if job is not None), None)

    @abc.abstractmethod
    def requeue(self, epochs: int, reporter: "Reporter") -> bool:
        """Have this job started again later.

        Args:
            epochs: how many it has finished; a job that finishes none is not queued again.

        Returns:
            Whether the scheduler now ends this process, to start it again.
        """

    def record(self) -> dict[str, Any]:
        """Return what the trial's row keeps of it."""
        return {"engine": self.engine, "id": self.id, "restarts": self.restarts}


class Executor(abc.ABC):
    """A scheduler that runs the jobs of one sweep.

    Args:
        device: "cpu" for jobs without GPUs.
        storage: what all jobs have to reach; only `check` needs it.
    """

    #: As `--on` and the folder of the jobs' output spell it.
    name: ClassVar[str]
    #: As messages print it.
    title: ClassVar[str]

    def __init__(
        self,
        sweep: Sweep,
        project: Project,
        device: str | None = None,
        storage: "Storage | None" = None,
    ) -> None:
        self._sweep = sweep
        self._project = project
        self._gpus = 0 if device == "cpu" else sweep.job.gpus
        self._storage = storage

    @classmethod
    @abc.abstractmethod
    def environment(cls, sweep: Sweep) -> JobEnvironment | None:
        """Return the job that this process runs in, None outside of this scheduler."""

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse at once what would never run or could not work; make the jobs' folder.

        Raises:
            PcanError: what is wrong and what would be right.
        """

    @abc.abstractmethod
    def describe(self, argv: Sequence[str]) -> str:
        """Return the job that would be submitted for a command, as text for `--dry-run`."""

    @abc.abstractmethod
    def submit(self, argv: Sequence[str], env: Mapping[str, str]) -> str:
        """Submit a job that runs a command; return its id.

        Args:
            env: added to this process's environment; not part of the command, so not visible to
                other users.
        """

    @abc.abstractmethod
    def list_jobs(self) -> list[ClusterJob]:
        """Return this sweep's jobs, ended ones as long as the scheduler remembers them."""

    @abc.abstractmethod
    def cancel(self, ids: Sequence[str], pending_only: bool = False) -> None:
        """End jobs; one that has ended already is not an error.

        Args:
            pending_only: leave alone what has started meanwhile.
        """

    @property
    def folder(self) -> Path:
        """Where the output of the sweep's jobs goes; it exists once a job was submitted."""
        return _job_folder(self._sweep, self._project, self.name)

    def log(self, job_id: str) -> Path:
        """Return the file of a job's output."""
        return self.folder / f"{job_id}.log"

    def active_jobs(self) -> list[ClusterJob]:
        """Return the jobs that are pending or running."""
        return [job for job in self.list_jobs() if job.phase is not JobPhase.ENDED]

    def cancel_pending(self) -> list[str]:
        """Cancel the jobs that have not started; return their ids."""
        pending = _pending(self.list_jobs())
        self.cancel(pending, pending_only=True)
        return pending

    def cancel_remaining(self, leave_s: float = LEAVE_S) -> None:
        """Wait until no job is left; cancel pending ones at once, running ones after a while."""
        deadline = time.monotonic() + leave_s
        while left := self.active_jobs():
            late = time.monotonic() > deadline
            self.cancel([job.id for job in left] if late else _pending(left))
            if late:
                return
            time.sleep(0.5)


def executor_class(name: str) -> type[Executor]:
    """Return the executor that `--on NAME` uses."""
    module, _, attribute = EXECUTORS[name].partition(":")
    return cast(type[Executor], getattr(importlib.import_module(module), attribute))


def executor_of(sweep: Sweep, project: Project) -> Executor | None:
    """Return the executor that a sweep was launched with, None if it never was.

    Asking a scheduler costs a process, so a sweep that ran here alone does not; nor is an executor
    imported for it.
    """
    used = (name for name in EXECUTORS if _job_folder(sweep, project, name).is_dir())
    return next((executor_class(name)(sweep, project) for name in used), None)


def _job_folder(sweep: Sweep, project: Project, name: str) -> Path:
    return project.runs / sweep.name / name


def command_digest(argv: Sequence[str]) -> str:
    """Return a digest of a job's command, by which a launch knows the jobs it may reuse."""
    return hashlib.sha256("\0".join(argv).encode()).hexdigest()[:12]


def _pending(jobs: Sequence[ClusterJob]) -> list[str]:
    return [job.id for job in jobs if job.phase is JobPhase.PENDING]
