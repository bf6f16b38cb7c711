"""What places jobs on other machines: the small interface that a scheduler is put behind.

A job of an engine is a place with the GPUs of one trial. It runs an ordinary launch of one slot
(`pcan sweep launch --in-job`), which claims trials until none is to be had and then ends. So the
engine decides where and when; which trial, and whether it still is ours, is the lease's matter.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterJob:
    """A job as the engine knows it.

    Args:
        id: the engine's name for it.
        phase: pending and running jobs still count as places; ended ones do not.
        state: the engine's own word, such as PENDING or NODE_FAIL.
        reason: why it is pending, in the engine's word; "" where there is none.
        node: where it runs or ran.
        exit_code: of its launch, None while it is not known.
        order: digest of the command that it runs (`order_of`).
    """

    id: str
    phase: Literal["pending", "running", "ended"]
    state: str
    reason: str = ""
    node: str = ""
    exit_code: int | None = None
    order: str = ""

    @property
    def cancelled(self) -> bool:
        """Whether a person has ended it."""
        return self.state == "CANCELLED"

    def record(self) -> dict[str, Any]:
        """Return the job as `status --json` shows it."""
        return {"id": self.id, "state": self.state, "reason": self.reason, "node": self.node}


def command_digest(words: Sequence[str]) -> str:
    """Return a digest of a job's command, by which a launch knows the jobs it may go on with."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]


class Executor(Protocol):
    """A scheduler that takes jobs of this sweep."""

    @property
    def name(self) -> str:
        """The engine as `--on` names it."""
        ...

    def check(self) -> None:
        """Refuse at once what would never run or could not work.

        Raises:
            PcanError: what is wrong and what would be right.
        """
        ...

    def submit(self, words: Sequence[str], env: Mapping[str, str]) -> str:
        """Ask for a job that runs a command; return its id."""
        ...

    def jobs(self) -> list[ClusterJob]:
        """Return this sweep's jobs, the ended ones as long as the engine remembers them."""
        ...

    def cancel(self, ids: Sequence[str], waiting: bool = False) -> None:
        """Have jobs ended; those that have ended already are no mistake.

        Args:
            waiting: leave alone what has started meanwhile.
        """
        ...

    def log(self, job_id: str) -> str:
        """Return the path of a job's output."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobEnvironment:
    """The engine's job that this process runs in.

    Args:
        restarts: how often the engine has started it again.
    """

    engine: str
    id: str
    restarts: int

    def record(self) -> dict[str, Any]:
        """Return what the trial's row keeps of it."""
        return dataclasses.asdict(self)


def inside() -> JobEnvironment | None:
    """Return the job that this process runs in, None outside of any engine."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    return JobEnvironment(
        engine="slurm", id=job, restarts=int(restarts) if restarts.isdigit() else 0
    )
