"""Messages by which libraries say that a limit of the machine was met or a part of it fails.

What to do about each goes with it. Read in errors by the job and in logs by the launcher. Shared
with the job side: Python 3.8.
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


#: By CUDA and torch, also where a rank ends without a traceback.
_GPU_FAULTS: Tuple[Tuple[str, str], ...] = (
    (
        r"uncorrectable (?:NVLink|ECC) error|fallen off the bus|GPU is lost|GPU requires reset|"
        r"cudaErrorECCUncorrectable|CUDA error: hardware stack error",
        "a GPU has failed; which one: nvidia-smi -q, dmesg | grep Xid. Have it reset, or leave it "
        "out with --gpus",
    ),
    (
        r"CUDA-capable device(?:s|\(s\))? (?:are|is|is/are) busy or unavailable",
        "a GPU is held by another process, or set to one process only: nvidia-smi -q -d COMPUTE",
    ),
    (
        r"[Dd]river/library version mismatch|CUDA driver version is insufficient|"
        r"forward compatibility was attempted|system not yet initialized|"
        r"unsupported display driver / cuda driver combination|CUDA driver initialization failed",
        "the NVIDIA driver does not fit, or was updated and waits for a restart: nvidia-smi",
    ),
    (
        r"no kernel image is available for execution",
        "this torch was not built for this GPU: install a build for its generation",
    ),
)
#: In an error that was raised, as Python or torch word it; a decoder says the like of a bad video
#: in its log.
_FILE_FAULTS = (
    r"\[Errno (?:5|6|19|30|107|108|112|116|121)\]|(?:read|write)\(\): fd \d+ failed with|"
    r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"
)
_FILE_REMEDY = (
    "the disk or file system does not give or take a file: is it mounted, reachable, writable, "
    "within its quota, and that file whole?"
)
_NETWORK_FAULTS = (
    r"URLError|urlopen error|Name or service not known|Temporary failure in name resolution|"
    r"Max retries exceeded|(?:requests|urllib3)\.exceptions\.\w*(?:Connection|Timeout)"
)
_NETWORK_REMEDY = (
    "no network is reached from here. If the config names weights by an address (init_cfg, "
    "pretrained), download them once where there is one, and name the file"
)


def machine_fault(text: str, raised: bool = True) -> Optional[str]:
    """Return what to do where a text says that a part of the machine fails, else None.

    Args:
        raised: the text is that of an error, not a whole log.
    """
    found = next((remedy for pattern, remedy in _GPU_FAULTS if re.search(pattern, text)), None)
    if found is not None or not raised:
        return found
    if re.search(_NETWORK_FAULTS, text):
        return _NETWORK_REMEDY
    return _FILE_REMEDY if re.search(_FILE_FAULTS, text) else None


def met_limit(text: str) -> Optional[str]:
    """Return which limit the messages in a text are about and what to do, None if about none."""
    return next((remedy for pattern, remedy in _LIMITS if re.search(pattern, text)), None)
