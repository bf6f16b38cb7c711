"""Messages by which libraries say that a limit of the machine was met, and what to do about each.

Read in errors by the job and in logs by the launcher. Shared with the job side: Python 3.8.
"""

import re
from typing import Optional, Tuple

_LIMITS: Tuple[Tuple[str, str], ...] = (
    (
        # torch (StorageSharing, MapAllocator) and its DataLoader's signal handler.
        r"unable to (?:write to|open|allocate|mmap)[^\n]*(?:/torch_|shared memory|shm)|"
        r"out of shared memory|killed by signal: Bus error|ERROR: Unexpected bus error",
        "shared memory (/dev/shm) is too small for the batches of the loader processes: make it "
        "larger (docker run --shm-size), or set num_workers lower",
    ),
    (
        r"Too many open files|received 0 items of ancdata",
        "a process may not open more files: raise the limit (ulimit -Hn 65536), or set "
        "num_workers lower",
    ),
    (
        r"AF_UNIX path too long",
        "the folder for temporary files has too long a path for sockets: export TMPDIR=/tmp",
    ),
    (
        r"can't start new thread|pthread_create failed|"
        r"(?:BlockingIOError|fork|clone)[^\n]*Resource temporarily unavailable",
        "no more processes or threads are allowed: raise the limit (ulimit -u, or pids.max of "
        "the container), or set num_workers lower",
    ),
    (
        r"[Uu]nable to find (?:address|interface) for:? ?\S*|No network interface found|"
        r"no socket interface found|(?:gloo|NCCL)[^\n]*[Nn]etwork is unreachable",
        "the network interface that the ranks are to meet on is missing: unset "
        "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME, and bring lo up",
    ),
    (
        r"No usable temporary directory found",
        "no folder for temporary files can be written: export TMPDIR=FOLDER",
    ),
)


def met_limit(text: str) -> Optional[str]:
    """Return which limit the messages in a text are about and what to do, None if about none."""
    return next((remedy for pattern, remedy in _LIMITS if re.search(pattern, text)), None)
