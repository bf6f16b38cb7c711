"""One job's processes: start torchrun, find every process of the trial, end them all.

torchrun puts each rank into a session of its own, so no process group reaches them; the trial's
marker in the environment does. Only processes of our user that carry the marker are signalled.
The package `psutil` is not used: it identifies processes by pid and start time, while a pidfd
pins the process between the check and the signal.
"""

import ctypes
import dataclasses
import functools
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.job.exit_cause import LogBaseline, log_start
from pipeline.job.rendezvous import Rendezvous
from pipeline.shared.rundir import MARKER, RunDir

_PR_SET_PDEATHSIG = 1
# Opened here: after a fork from a process with threads the loader's lock may never be released.
_LIBC = ctypes.CDLL(None, use_errno=True)
#: How long after SIGTERM a process is killed.
TERM_GRACE_S = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """How a job is started.

    Args:
        python: the interpreter for the launcher and the ranks.
        nproc: ranks on this machine.
        cwd: the project's root; relative paths of a config begin there.
        env: the job's environment without the marker.
        visible: CUDA_VISIBLE_DEVICES, "" on the CPU.
    """

    python: str
    nproc: int
    cwd: Path
    env: Mapping[str, str]
    visible: str

    def argv(self, rundir: RunDir, rendezvous: str) -> list[str]:
        """Return the command line.

        Args:
            rendezvous: a folder of this user, in which torchrun keeps its own state. With
                --standalone it is pickled behind a port open on all interfaces (torch 2.13).
        """
        return [
            self.python,
            "-m",
            "torch.distributed.run",
            "--nnodes=1",
            "--rdzv_backend=c10d",
            "--rdzv_conf=store_type=file",
            f"--rdzv_endpoint={rendezvous}/torchrun",
            f"--rdzv_id={Path(rendezvous).name}",
            f"--nproc_per_node={self.nproc}",
            "-m",
            "pipeline.train",
            str(rundir.root),
        ]


class JobProcess:
    """The processes of one start of a trial's job."""

    def __init__(self, rundir: RunDir, token: str, command: Command) -> None:
        self.rundir = rundir
        self.token = token
        self.started = time.monotonic()
        self.log_start: LogBaseline = log_start(rundir, command.nproc)
        env = {**command.env, MARKER: token, "CUDA_VISIBLE_DEVICES": command.visible}
        env.setdefault("OMP_NUM_THREADS", "1")
        env.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
        self._rendezvous = Rendezvous()
        self._rendezvous.prepare(env)
        with open(rundir.job_log, "ab") as log:
            self._popen = subprocess.Popen(
                command.argv(rundir, self._rendezvous.path),
                cwd=command.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for the launcher
                preexec_fn=functools.partial(_die_with_parent, os.getpid()),
            )
        self._terminated: float | None = None

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.started

    def running(self) -> bool:
        """Whether the launcher has not ended yet."""
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._popen.returncode

    def terminate(self) -> None:
        """Send SIGTERM to every process of the trial; `escalate` kills those that stay."""
        if self._terminated is None:
            self._terminated = time.monotonic()
            _signal_all(self.token, signal.SIGTERM)

    def escalate(self) -> None:
        """Kill what is left `TERM_GRACE_S` after `terminate`; called once a tick."""
        if self._terminated is not None and time.monotonic() - self._terminated > TERM_GRACE_S:
            self.kill()

    @property
    def terminated(self) -> bool:
        """Whether SIGTERM was sent."""
        return self._terminated is not None

    def ask_for_stacks(self) -> None:
        """Have every rank write the stacks of its threads to its log (SIGUSR1)."""
        for pid in ranks_of(self.token):
            signal_marked(pid, self.token, signal.SIGUSR1)

    def kill(self) -> None:
        """Kill every process of the trial at once."""
        _signal_all(self.token, signal.SIGKILL)

    def reap(self, seconds: float = 5.0) -> list[int]:
        """Kill what outlived torchrun and wait until it is gone.

        Returns:
            The pids that are still there after `seconds`.
        """
        self._rendezvous.close()
        deadline = time.monotonic() + seconds
        left = pids_of(self.token)
        while left and time.monotonic() < deadline:
            _signal_all(self.token, signal.SIGKILL)
            time.sleep(0.05)
            left = pids_of(self.token)
        return left


def pids_of(token: str) -> list[int]:
    """Return the pids of our user's processes that carry a trial's marker."""
    pids = [int(e.name) for e in os.scandir("/proc") if e.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and belongs_to(pid, token)]


def ranks_of(token: str) -> list[int]:
    """Return the pids of a trial's ranks and their data workers, without torchrun itself.

    Only they have a handler for SIGUSR1; it would end any other process.
    """
    found = []
    for pid in pids_of(token):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
        except OSError:
            continue
        handles = caught is not None and int(caught.group(1), 16) >> (signal.SIGUSR1 - 1) & 1
        if handles and b"torch.distributed.run" not in words:
            found.append(pid)
    return found


def signal_marked(pid: int, token: str, number: signal.Signals) -> None:
    """Signal a process if it still belongs to the trial; a reused pid is left alone.

    The handle pins the process, so what is checked is what is signalled.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if belongs_to(pid, token):
            signal.pidfd_send_signal(handle, number)
    except OSError:
        return
    finally:
        os.close(handle)


def is_visible(pid: int) -> bool:
    """Whether a process of that number runs here; one that is ending has no command any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def belongs_to(pid: int, token: str) -> bool:
    """Whether a process of our user carries a trial's marker."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.getuid():
            return False
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARKER}={token}".encode() in environ.split(b"\0")


def _signal_all(token: str, number: signal.Signals) -> None:
    for pid in pids_of(token):
        signal_marked(pid, token, number)


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill torchrun when its launcher dies, however that happens.

    SIGKILL, since a stopped torchrun does not act on SIGTERM; its ranks die with it the same way.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request was made
        os._exit(1)
