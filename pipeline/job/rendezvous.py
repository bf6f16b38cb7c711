"""The private folder in which a job's ranks, and torchrun's own agent, find each other.

It is in the temporary directory and locked while its launcher lives, so that the folder of a
killed launcher can be distinguished from one in use; the next job's start removes it. The package
`filelock` is not used: it creates a lock file that is missing, and a folder without one is not
ours to remove.

Sockets of a job's processes lie in the temporary directory as well, and the path of a socket may
have 107 bytes. Where the temporary directory is too long for them, the job gets a shorter one.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path

from pipeline.errors import NotReady
from pipeline.shared.rundir import MEETING

PREFIX = "pcan-job-"
_LOCK = "launcher.lock"
#: The ranks of a killed launcher end with it, within seconds.
STALE_S = 60.0
#: Longest path of a socket: 108 bytes with the closing NUL (unix(7)).
SOCKET_BYTES = 107
#: The longest name that a job's processes give a socket below the temporary directory: torch's
#: shared memory manager has 34 bytes, multiprocessing's listener 32.
_BELOW = len("/torch-shm-dir-XXXXXX/manager.sock")
#: Where a job's sockets go if the temporary directory is too long.
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


class Rendezvous:
    """A new folder that only this user can enter; `close` removes it."""

    def __init__(self) -> None:
        remove_stale()
        self._folder = socket_folder()
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir=self._folder)
        self._lock: int | None = _locked(Path(self.path))

    def prepare(self, env: MutableMapping[str, str]) -> None:
        """Set the variables by which ranks meet in a file, with loopback and short sockets only.

        Args:
            env: the job's environment, changed in place; what the user has set in it stays.
        """
        env[MEETING] = f"{self.path}/ranks"
        own = self._folder == temporary_folder()
        env["TMPDIR"] = self._folder if own else self.path
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


def temporary_folder() -> str:
    """Return the folder that Python takes for temporary files: TMPDIR, if it can be written.

    Raises:
        NotReady: there is none.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        raise NotReady(
            f"No folder for temporary files can be written ({_given()}; nor /tmp or /var/tmp). "
            "Make room there, or name one: export TMPDIR=FOLDER"
        ) from None


def socket_folder() -> str:
    """Return the temporary folder, or a shorter one if its path is too long for sockets.

    Raises:
        NotReady: no folder that is short enough can be written.
    """
    usual = temporary_folder()
    found = next(filter(_holds_sockets, (usual, *SHORT_FOLDERS)), None)
    if found is None:
        raise NotReady(
            f"The folder for temporary files, {usual}, has {_bytes(usual)} bytes; data workers "
            f"need sockets there, whose path may have {SOCKET_BYTES} (so {most_bytes()} for the "
            f"folder), and none of {', '.join(SHORT_FOLDERS)} can be written. Name a shorter "
            "one: export TMPDIR=FOLDER"
        )
    return found


def most_bytes() -> int:
    """Return how long the path of a folder for temporary files may be."""
    return SOCKET_BYTES - _BELOW


def _holds_sockets(folder: str) -> bool:
    return _bytes(folder) <= most_bytes() and os.access(folder, os.W_OK | os.X_OK)


def _bytes(path: str) -> int:
    return len(os.fsencode(path))


def _given() -> str:
    named = [
        f"{key} is {os.environ[key]}" for key in ("TMPDIR", "TEMP", "TMP") if key in os.environ
    ]
    return ", ".join(named) or "TMPDIR is not set"


def remove_stale(stale_s: float = STALE_S) -> None:
    """Remove this user's folders whose launcher died more than `stale_s` seconds ago."""
    for folder in Path(socket_folder()).glob(f"{PREFIX}*"):
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
    except OSError:
        if not create:
            os.close(handle)
            raise
        # A file system without locks: then no other launch can lock it either, and so removes it.
    return handle
