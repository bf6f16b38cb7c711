"""What a rank does to its own process before anything heavy is imported.

It dies with its parent, writes into its own log, and can be asked for its stacks.
Standard library only: this runs before torch is imported.
"""

import ctypes
import faulthandler
import gc
import io
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Optional

from pipeline.shared.rundir import MARKER, RunDir

_PR_SET_PDEATHSIG = 1
#: Each tensor of a batch from a loader process is an open file until it was received.
_FILES = 65_536
# Opened here and not when it is used: a data worker is forked from a process with threads,
# where the dynamic loader's lock may be held for ever.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def die_with_parent(parent: Optional[int] = None) -> None:
    """Ask the kernel to kill this process when its parent ends.

    torchrun puts each rank in a session of its own, so a killed launcher would leave its
    ranks running (and their data workers with them). The setting is lost on fork: every
    data worker has to call this too.

    Args:
        parent: pid of the process that must still be the parent; None takes the present
            one, if it carries this trial's marker.
    """
    if _LIBC is None:
        return
    expected = os.getppid() if parent is None else parent
    if _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before the request was made; no signal would come then.
    if os.getppid() != expected or (parent is None and not _same_trial(expected)):
        os.kill(os.getpid(), signal.SIGKILL)


def _same_trial(pid: int) -> bool:
    """Whether `pid` carries our trial marker, as our launcher does.

    A process that adopted us after the launcher's death does not.
    """
    marker = os.environ.get(MARKER)
    if not marker or "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return True
    return os.fsencode(f"{MARKER}={marker}") in environment


def exit_if_replaced(rundir: RunDir) -> None:
    """End this process if the folder is another start's by now; nothing more is written."""
    token = os.environ.get(MARKER)
    if token and not rundir.is_held_by(token):
        print(
            "Another launch has taken this trial up; this job ends.", file=sys.stderr, flush=True
        )
        os._exit(1)


def log_to(path: Path) -> None:
    """Append stdout and stderr of this process, and of its children, to `path`."""
    sys.stdout.flush()
    sys.stderr.flush()
    handle = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def raise_file_limit() -> None:
    """Let this process and its loader processes open as many files as the machine allows.

    The usual limit of 1,024 is a soft one, which a few large batches exceed: a loader process then
    cannot hand its batch over, and its rank waits for ever.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pass_over_what_stands() -> None:
    """Have searches for garbage pass over what stands by now, 400,000 objects of modules alone.

    MMEngine asks for a search with every data set it builds, 0.2 s of CPU time each.
    """
    gc.freeze()


def collect_garbage_again() -> None:
    """Collect what comes from now on, by the threshold that `pipeline/job_path` had raised."""
    pass_over_what_stands()
    gc.set_threshold(700, 10, 10)


def dump_stacks_on_request() -> None:
    """Write the stacks of all threads to stderr on SIGUSR1, and on a crash."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
