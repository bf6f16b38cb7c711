"""One job's processes: start torchrun, find every process of the trial, end them all.

torchrun puts each rank into a session of its own, so no process group reaches them; the trial's
marker in the environment does. Only processes of our user that carry the marker are ever touched.
"""

import ctypes
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.job.rundir import MARKER, RunDir

_PR_SET_PDEATHSIG = 1
#: How long after TERM a process is killed.
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

    def argv(self, rundir: RunDir) -> list[str]:
        """Return the command line, which anyone can type to run the same job by hand."""
        return [
            self.python,
            "-m",
            "torch.distributed.run",
            "--standalone",
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
        env = {**command.env, MARKER: token, "CUDA_VISIBLE_DEVICES": command.visible}
        env.setdefault("OMP_NUM_THREADS", "1")
        env.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
        with open(rundir.job_log, "ab") as log:
            self._popen = subprocess.Popen(
                command.argv(rundir),
                cwd=command.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
                preexec_fn=_die_with_parent,
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
        """Ask every process of the trial to end; `press` kills those that do not."""
        if self._terminated is None:
            self._terminated = time.monotonic()
            _signal_all(self.token, signal.SIGTERM)

    def press(self) -> None:
        """Kill what is left some time after `terminate`; call it again and again."""
        if self._terminated is not None and time.monotonic() - self._terminated > TERM_GRACE_S:
            self.kill()

    def kill(self) -> None:
        """Kill every process of the trial at once."""
        _signal_all(self.token, signal.SIGKILL)

    def sweep_up(self, seconds: float = 5.0) -> list[int]:
        """Kill what outlived the launcher and wait until it is gone.

        Returns:
            The pids that would not go.
        """
        deadline = time.monotonic() + seconds
        left = marked(self.token)
        while left and time.monotonic() < deadline:
            _signal_all(self.token, signal.SIGKILL)
            time.sleep(0.05)
            left = marked(self.token)
        return left


def marked(token: str) -> list[int]:
    """Return the pids of our user's processes that carry a trial's marker."""
    wanted = f"{MARKER}={token}".encode()
    me, mine = os.getuid(), []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if os.stat(entry.path).st_uid != me:
                continue
            with open(f"{entry.path}/environ", "rb") as stream:
                environ = stream.read()
        except OSError:
            continue
        if wanted in environ.split(b"\0"):
            mine.append(int(entry.name))
    return mine


def _signal_all(token: str, number: signal.Signals) -> None:
    for pid in marked(token):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _die_with_parent() -> None:
    """Let the kernel end torchrun when its launcher dies, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
