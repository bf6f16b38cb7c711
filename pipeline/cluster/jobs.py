"""The jobs that a scheduler has of a sweep, for commands that look at them or end them."""

import time

from pipeline.cluster.executor import ClusterJob, Executor
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep

#: How long a job whose trial has ended may take to leave by itself.
LEAVE_S = 20.0


def engine_of(sweep: Sweep, project: Project) -> Executor | None:
    """Return the engine that a sweep was launched on, None if it never was.

    Asking the scheduler costs a process, so a sweep that ran here alone does not.
    """
    if not (project.runs / sweep.name / "slurm").is_dir():
        return None
    from pipeline.cluster.slurm import SlurmExecutor

    return SlurmExecutor(sweep, project)


def active_jobs(engine: Executor) -> list[ClusterJob]:
    """Return the jobs that wait or run."""
    return [job for job in engine.jobs() if job.phase != "ended"]


def cancel_waiting(engine: Executor) -> list[str]:
    """Cancel the jobs that have not started; return their ids."""
    waiting = [job.id for job in engine.jobs() if job.phase == "pending"]
    engine.cancel(waiting, waiting=True)
    return waiting


def cancel_remaining(engine: Executor, leave_s: float = LEAVE_S) -> None:
    """Wait until no job is left; cancel one that waits at once, one that runs after a while."""
    deadline = time.monotonic() + leave_s
    while left := active_jobs(engine):
        waiting = [job.id for job in left if job.phase == "pending"]
        late = time.monotonic() > deadline
        engine.cancel([job.id for job in left] if late else waiting)
        if late:
            return
        time.sleep(0.5)
