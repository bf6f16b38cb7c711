"""SLURM behind the executor interface: sbatch, squeue, scontrol and scancel, nothing else.

No accounting database is needed (docs/decisions/030). Every call has a time limit, since the
client tools wait forever for a controller that is gone.
"""

import dataclasses
import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from pipeline.cluster.executor import (
    ClusterJob,
    Executor,
    JobEnvironment,
    JobPhase,
    command_digest,
)
from pipeline.cluster.slurm_validation import Cluster, read_cluster, validate
from pipeline.env import HOST_BOUND
from pipeline.errors import NotReady
from pipeline.launch.reporters import Reporter
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import make_private

CALL_S = 30.0
#: How long before its time limit a job is signalled, beside the epoch that it may finish.
MARGIN_S = 60
#: The longest lead that SLURM takes.
MAX_SIGNAL_S = 65_535
#: A state in neither of these two counts as running: no second job is submitted beside it.
_PENDING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"),
}
#: The command itself has ended.
_EXITED = {"COMPLETED", "FAILED"}
_CANCELLED = "CANCELLED"
#: The exit status (here as a signal) of a job whose output file could not be opened.
_OUTPUT_FAILED = -53
#: Variables by which the clients filter, sort and format what pcan reads, or ask before they act.
_CLIENT_DEFAULTS = ("SQUEUE_", "SINFO_", "SCANCEL_", "SCONTROL_")
#: Of the cluster; the other variables of SLURM are about the job around this process.
_OF_CLUSTER = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS"}
#: Options that a job of pcan may not have: sbatch would wait for its end, make an array of it, ...
_NEVER_SET = {
    *("SBATCH_WAIT", "SBATCH_ARRAY_INX", "SBATCH_NO_REQUEUE", "SBATCH_REQUEUE"),
    *("SBATCH_ERROR", "SBATCH_INPUT", "SBATCH_IGNORE_PBS"),
}
#: The variables of options that are not named as the option is.
_VARIABLES = {
    "gres": ("SBATCH_GRES", "SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK"),
    "time": ("SBATCH_TIMELIMIT",),
    "mem": ("SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmEnvironment(JobEnvironment):
    """The SLURM job that this process runs in."""

    def requeue(self, epochs: int, reporter: Reporter) -> bool:
        """Have SLURM queue this job again, unless it had no time for an epoch."""
        if epochs < 1:
            reporter.on_message(
                f"SLURM job {self.id} had no time to finish an epoch, so it is not queued again. "
                "Raise slurm.time or slurm.signal_s in the sweep file."
            )
            return False
        try:
            run_client(["scontrol", "requeue", self.id])
        except NotReady as error:
            reporter.on_message(f"SLURM job {self.id} is not queued again: {error}")
            return False
        reporter.on_message(
            f"SLURM job {self.id} is queued again; it goes on where this one stopped."
        )
        return True


class SlurmExecutor(Executor):
    """The SLURM cluster that this machine submits to, for one sweep."""

    name = "slurm"
    title = "SLURM"
    _cluster: Cluster | None = None

    @classmethod
    def environment(cls, sweep: Sweep) -> SlurmEnvironment | None:
        job = os.environ.get("SLURM_JOB_ID")
        if not job:
            return None
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
        return SlurmEnvironment(
            engine=cls.name,
            id=job,
            restarts=int(restarts) if restarts.isdigit() else 0,
            warning_s=signal_lead_s(sweep),
        )

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
            self._storage,
            signal_lead_s(self._sweep),
        )
        make_private(self.folder)

    def submit(self, argv: Sequence[str], env: Mapping[str, str]) -> str:
        """Submit a job that runs a command; its script goes through stdin."""
        script = self.describe(argv)
        kept = _submission_environment(script, {**os.environ, **env})
        answer = run_client(["sbatch", "--parsable"], text=script, env=kept)
        # A site's own plug-ins may print lines before it.
        found = re.findall(r"^(\d+)(?:;\S*)?\s*$", answer, re.MULTILINE)
        if not found:
            raise NotReady(
                f'sbatch answered "{" ".join(answer.split())[:200]}", which names no job. Is one '
                f"there? See: squeue -n {self.job_name}; end it: scancel -n {self.job_name}"
            )
        return str(found[-1])

    def list_jobs(self) -> list[ClusterJob]:
        """Return the sweep's jobs; SLURM forgets ended ones after MinJobAge (5 minutes)."""
        argv = ["squeue", "-h", "-t", "all", "-n", self.job_name, "-u", str(os.getuid())]
        listed = run_client([*argv, "-o", "%i|%T|%r|%N|%k"])
        jobs = [_parse_job(line) for line in listed.splitlines() if line.count("|") >= 4]
        return [_with_exit_code(job) if job.phase is JobPhase.ENDED else job for job in jobs]

    def cancel(self, ids: Sequence[str], pending_only: bool = False) -> None:
        """End jobs, or only those of them that are still pending."""
        if ids:
            only = ["--state=PENDING"] if pending_only else []
            run_client(["scancel", "--quiet", *only, *ids])

    def _output(self) -> str:
        """Return the file of a job's output as a line of a batch script names it.

        SLURM fills in `%j`, takes `%%` for a percent sign, and after a backslash fills in nothing.
        """
        folder = str(self.folder)
        if "\\" in folder:
            raise NotReady(
                f"{folder} has a backslash in its name, which SLURM does not take in the name of "
                "a job's output file. Rename that folder."
            )
        return shlex.quote(folder.replace("%", "%%") + "/%j.log")

    @property
    def job_name(self) -> str:
        """The name of the sweep's jobs, which differs from that of another folder."""
        place = hashlib.sha256(str(self._project.runs.resolve()).encode()).hexdigest()[:8]
        return f"pcan-{self._sweep.name}-{place}"

    def describe(self, argv: Sequence[str]) -> str:
        """Return the batch script: the options, the site's own lines, the launch."""
        slurm, cluster = self._sweep.slurm, self._cluster
        cpus = slurm.cpus or (cluster.share(self._sweep, self._gpus) if cluster else None)
        options: dict[str, str | int | None] = {
            "job-name": self.job_name,
            "comment": command_digest(argv),
            "nodes": 1,
            "ntasks": 1,
            "cpus-per-task": cpus,
            "gres": f"gpu:{self._gpus}" if self._gpus else None,
            "partition": slurm.partition,
            "account": slurm.account,
            "time": slurm.time,
            "exclude": cluster.excluded(slurm) if cluster else None,
            # Only the launch gets the signal; it stops the ranks together.
            "signal": f"B:USR1@{signal_lead_s(self._sweep)}",
            "output": self._output(),
            "open-mode": "append",
            "export": "ALL",
        }
        lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value is not None]
        extra = [line for line in slurm.extra if line.strip().startswith("#SBATCH")]
        setup = [line for line in slurm.extra if line not in extra]
        run = f"exec {shlex.join(argv)}"  # exec: signals reach the launch itself
        return "\n".join(["#!/bin/bash", *lines, "#SBATCH --requeue", *extra, *setup, run, ""])


def signal_lead_s(sweep: Sweep) -> int:
    """Return how long before its time limit a job is signalled: long enough to finish an epoch."""
    if sweep.slurm.signal_s is not None:
        return sweep.slurm.signal_s
    epoch = 1.2 * 60 * (sweep.job.epoch_minutes or 0)
    return min(MAX_SIGNAL_S, int(max(epoch, sweep.job.stop_grace_s)) + MARGIN_S)


def _submission_environment(script: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a job is submitted with, which it also gets.

    A variable of sbatch overrules the script, so those of options that the script sets are left
    out: under another name or in an array a job would never be found again. So are the variables
    of a job around this process, which would be taken for the new job's own.
    """
    hidden = {*HOST_BOUND, *_NEVER_SET}
    for option in re.findall(r"^\s*#SBATCH\s+--([a-z-]+)", script, re.MULTILINE):
        own = f"SBATCH_{option.upper().replace('-', '_')}"
        hidden |= {own, *_VARIABLES.get(option, ())}
    return {
        key: value
        for key, value in env.items()
        if key not in hidden and (key in _OF_CLUSTER or not key.startswith(("SLURM_", "PMI")))
    }


def run_client(
    argv: Sequence[str], text: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a client tool of SLURM.

    Raises:
        NotReady: it is absent, refuses, or does not answer; the text quotes it.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=_without_defaults(os.environ if env is None else env),
            timeout=CALL_S,
            check=False,
        )
    except FileNotFoundError:
        raise NotReady(
            f"{argv[0]} is not on this machine. Run this on a login node of the cluster."
        ) from None
    except OSError as error:
        raise NotReady(f"{argv[0]} cannot be run: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise NotReady(
            f"{argv[0]} had no answer from SLURM for {CALL_S:g} s. Is slurmctld up? See: "
            "scontrol ping"
        ) from None
    if done.returncode != 0:
        why = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise NotReady(f"{argv[0]} was refused by SLURM: {why[:400]}")
    return done.stdout


def _without_defaults(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the clients list everything and in their own order.

    With SQUEUE_PARTITION=other, say, no job of the sweep is listed and each is submitted again.
    """
    return {k: v for k, v in env.items() if not k.startswith(_CLIENT_DEFAULTS)}


def _parse_job(line: str) -> ClusterJob:
    job, state, reason, node, digest = line.split("|", 4)
    phase = JobPhase.RUNNING
    if state in _PENDING:
        phase = JobPhase.PENDING
    elif state in _ENDED:
        phase = JobPhase.ENDED
    return ClusterJob(
        id=job,
        phase=phase,
        state=state,
        reason="" if reason == "None" or phase is JobPhase.ENDED else reason,
        node=node,
        exited=state in _EXITED,
        cancelled=state == _CANCELLED,
        digest=digest,
    )


def _with_exit_code(job: ClusterJob) -> ClusterJob:
    """Add the exit code, which without accounting only `scontrol` returns."""
    try:
        text = run_client(["scontrol", "show", "job", "-o", job.id])
    except NotReady:  # forgotten meanwhile
        return job
    found = re.search(r"\bExitCode=(\d+):(\d+)", text)
    code = int(found.group(1)) or -int(found.group(2)) if found else None
    return dataclasses.replace(job, exit_code=code, output_failed=code == _OUTPUT_FAILED)
