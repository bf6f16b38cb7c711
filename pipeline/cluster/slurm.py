"""SLURM behind the engine interface: sbatch, squeue, scontrol and scancel, nothing else.

No accounting database is needed (docs/decisions/030). Every call has a time limit, since the
client tools wait for ever on a controller that is gone.
"""

import dataclasses
import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.cluster.executor import ClusterJob, JobEnvironment, command_digest
from pipeline.cluster.slurm_validation import Cluster, read_cluster, validate
from pipeline.errors import NotReady
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.study.db.storage import Storage

CALL_S = 30.0
#: How long before its time limit a job is told, beside the epoch that it may finish.
MARGIN_S = 60
#: The longest lead that SLURM takes.
MAX_SIGNAL_S = 65_535
_PENDING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
_RUNNING = {
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
}
#: Names a host among its processes; a job has a host of its own.
_NOT_HANDED_ON = ("PCAN_HOST", "CUDA_VISIBLE_DEVICES")


class SlurmExecutor:
    """The SLURM cluster that this machine submits to, for one sweep.

    Args:
        device: "cpu" for jobs without GPUs.
        sharing: the storage that all jobs use; only `check` needs it.
    """

    name = "slurm"

    def __init__(
        self,
        sweep: Sweep,
        project: Project,
        device: str | None = None,
        sharing: Storage | None = None,
    ) -> None:
        self._sweep = sweep
        self._project = project
        self._gpus = 0 if device == "cpu" else sweep.job.gpus
        self._sharing = sharing
        self._cluster: Cluster | None = None

    def check(self) -> None:
        """Refuse a missing sbatch, an unknown partition, too many GPUs, an unshared folder."""
        if shutil.which("sbatch") is None:
            raise NotReady(
                "sbatch is not on this machine, and --on slurm submits with it. Run this on a "
                "login node of the cluster, or leave --on slurm out to train here."
            )
        self._cluster = read_cluster(run_client)
        validate(
            self._sweep,
            self._project,
            self._cluster,
            self._gpus,
            self._sharing,
            signal_lead_s(self._sweep),
        )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def submit(self, words: Sequence[str], env: Mapping[str, str]) -> str:
        """Submit a job that runs a command; its script goes through stdin."""
        kept = {k: v for k, v in {**os.environ, **env}.items() if k not in _NOT_HANDED_ON}
        said = run_client(["sbatch", "--parsable"], text=self.script(words), env=kept)
        return said.strip().split(";")[0]

    def jobs(self) -> list[ClusterJob]:
        """Return the sweep's jobs; SLURM forgets ended ones after MinJobAge (5 minutes)."""
        words = ["squeue", "-h", "-t", "all", "-n", self.job_name, "-u", str(os.getuid())]
        listed = run_client([*words, "-o", "%i|%T|%r|%N|%k"])
        found = [_job(line) for line in listed.splitlines() if line.count("|") >= 4]
        return [self._ended(job) if job.phase == "ended" else job for job in found]

    def cancel(self, ids: Sequence[str], waiting: bool = False) -> None:
        """Have jobs ended, or only those of them that still wait."""
        if ids:
            run_client(["scancel", "--quiet", *(["--state=PENDING"] if waiting else []), *ids])

    def log(self, job_id: str) -> str:
        """Return the path of a job's output."""
        return str(self._folder / f"{job_id}.log")

    @property
    def job_name(self) -> str:
        """The name of the sweep's jobs, which tells them from those of another folder."""
        place = hashlib.sha256(str(self._project.runs.resolve()).encode()).hexdigest()[:8]
        return f"pcan-{self._sweep.name}-{place}"

    def script(self, words: Sequence[str]) -> str:
        """Return the batch script: what is asked for, the site's own lines, the launch."""
        slurm, cluster = self._sweep.slurm, self._cluster
        cpus = slurm.cpus or (cluster.share(self._sweep, self._gpus) if cluster else None)
        asked: dict[str, str | int | None] = {
            "job-name": self.job_name,
            "comment": command_digest(words),
            "nodes": 1,
            "ntasks": 1,
            "cpus-per-task": cpus,
            "gres": f"gpu:{self._gpus}" if self._gpus else None,
            "partition": slurm.partition,
            "account": slurm.account,
            "time": slurm.time,
            "exclude": cluster.excluded(slurm) if cluster else None,
            # Only the launch is told; it stops the ranks together.
            "signal": f"B:USR1@{signal_lead_s(self._sweep)}",
            "output": self.log("%j"),
            "open-mode": "append",
            "export": "ALL",
        }
        lines = [f"#SBATCH --{key}={value}" for key, value in asked.items() if value is not None]
        extra = [line for line in slurm.extra if line.strip().startswith("#SBATCH")]
        setup = [line for line in slurm.extra if line not in extra]
        run = f"exec {shlex.join(words)}"  # exec: signals reach the launch itself
        return "\n".join(["#!/bin/bash", *lines, "#SBATCH --requeue", *extra, *setup, run, ""])

    @property
    def _folder(self) -> Path:
        return folder(self._project, self._sweep)

    def _ended(self, job: ClusterJob) -> ClusterJob:
        """Add the exit code, which only `scontrol` tells without accounting."""
        try:
            text = run_client(["scontrol", "show", "job", "-o", job.id])
        except NotReady:  # forgotten meanwhile
            return job
        found = re.search(r"\bExitCode=(\d+):(\d+)", text)
        code = int(found.group(1)) or -int(found.group(2)) if found else None
        return dataclasses.replace(job, exit_code=code)


def folder(project: Project, sweep: Sweep) -> Path:
    """Return where the output of a sweep's jobs goes; it is there once a job was submitted."""
    return project.runs / sweep.name / "slurm"


def signal_lead_s(sweep: Sweep) -> int:
    """Return how long before its time limit a job is told: long enough to finish an epoch."""
    if sweep.slurm.signal_s is not None:
        return sweep.slurm.signal_s
    epoch = 1.2 * 60 * (sweep.job.epoch_minutes or 0)
    return min(MAX_SIGNAL_S, int(max(epoch, sweep.job.stop_grace_s)) + MARGIN_S)


def requeue(inside: JobEnvironment, epochs: int, say: Callable[[str], None]) -> bool:
    """Have the job that this process runs in started again later.

    Args:
        epochs: how many it has finished; without one it never would.
        say: told what was done.

    Returns:
        Whether SLURM ends this process now, to start it again.
    """
    if epochs < 1:
        say(
            f"SLURM job {inside.id} had no time to finish an epoch, so it is not queued again. "
            "Raise slurm.time or slurm.signal_s in the sweep file."
        )
        return False
    try:
        run_client(["scontrol", "requeue", inside.id])
    except NotReady as error:
        say(f"SLURM job {inside.id} is not queued again: {error}")
        return False
    say(f"SLURM job {inside.id} is queued again; it goes on where this one stopped.")
    return True


def run_client(
    words: Sequence[str], text: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a client tool of SLURM.

    Raises:
        NotReady: it is absent, refuses, or does not answer; with its own words.
    """
    try:
        done = subprocess.run(
            list(words),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            env=env,
            timeout=CALL_S,
            check=False,
        )
    except FileNotFoundError:
        raise NotReady(
            f"{words[0]} is not on this machine. Run this on a login node of the cluster."
        ) from None
    except subprocess.TimeoutExpired:
        raise NotReady(
            f"{words[0]} had no answer from SLURM for {CALL_S:g} s. Is slurmctld up? See: "
            "scontrol ping"
        ) from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise NotReady(f"{words[0]} was refused by SLURM: {said[:400]}")
    return done.stdout


def _job(line: str) -> ClusterJob:
    job, state, reason, node, order = line.split("|", 4)
    phase = "pending" if state in _PENDING else "running" if state in _RUNNING else "ended"
    return ClusterJob(
        id=job,
        phase=phase,  # type: ignore[arg-type]
        state=state,
        reason="" if reason == "None" or phase == "ended" else reason,
        node=node,
        order=order,
    )
