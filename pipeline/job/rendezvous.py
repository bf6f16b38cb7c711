"""The private folder in which a job's ranks, and torchrun's own agent, find each other.

It is in the temporary directory and locked while its launcher lives, so that the folder of a
killed launcher can be told from one in use; the next job's start removes it. The package
`filelock` is not used: it creates a lock file that is missing, and a folder without one is not
ours to remove.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path

from pipeline.shared.rundir import MEETING

PREFIX = "pcan-job-"
_LOCK = "launcher.lock"
#: The ranks of a killed launcher end with it, within seconds.
STALE_S = 60.0


class Rendezvous:
    """A new folder that only this user can enter; `close` removes it."""

    def __init__(self) -> None:
        remove_stale()
        self.path = tempfile.mkdtemp(prefix=PREFIX)
        self._lock: int | None = _locked(Path(self.path))

    def prepare(self, env: MutableMapping[str, str]) -> None:
        """Set the variables by which ranks meet in a file, with loopback sockets only.

        Args:
            env: the job's environment, changed in place; what the user has set in it stays.
        """
        env[MEETING] = f"{self.path}/ranks"
        # Else torchrun opens a store for the ranks on all interfaces (torch >= 2.4).
        env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")
        env.setdefault("NCCL_SOCKET_IFNAME", "lo")

    def close(self) -> None:
        """Remove the folder; a second call does nothing."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def remove_stale(stale_s: float = STALE_S) -> None:
    """Remove this user's folders whose launcher died more than `stale_s` seconds ago."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            stat = folder.lstat()
            if stat.st_uid != os.getuid() or time.time() - stat.st_mtime < stale_s:
                continue
            lock = _locked(folder, create=False)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _locked(folder: Path, create: bool = True) -> int | None:
    """Lock a folder as its launcher; None while another process holds it.

    Raises:
        OSError: the lock file is missing (unless `create`), or is a link.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    handle = os.open(folder / _LOCK, flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
