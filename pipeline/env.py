"""The environment variables of pcan: what each means, its unit, its default and its check.

They are facts of a machine or of a test, so no key of the sweep file holds them. Variables that
pcan itself sets for its children stand in `pipeline/shared/rundir.py`, which the job side reads
too; `PCAN_DATA_ROOT` is read by exported configs (`pipeline/report/best/exported_config.py`).
"""

import math
import os
import shutil
import socket
import tempfile
from pathlib import Path

from pipeline.errors import InputError

#: URL of the study storage, as `--storage`; may hold a password.
STORAGE = "PCAN_STORAGE"
#: Set for the command of `--notify`: the event as JSON.
EVENT = "PCAN_EVENT"
#: Never passed to a job: only the uploader and the launcher need them.
SECRETS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", STORAGE, "PGPASSWORD")
#: Name a host and its GPUs, so a job on another host must not inherit them.
HOST_BOUND = ("PCAN_HOST", "CUDA_VISIBLE_DEVICES")


def stall_floor_s() -> float:
    """Return the seconds without a step that are always allowed (PCAN_STALL_S)."""
    return _seconds("PCAN_STALL_S", 300.0)


def storage_patience_s() -> float:
    """Return how long an idle launch waits for its storage (PCAN_STORAGE_PATIENCE_S)."""
    return _seconds("PCAN_STORAGE_PATIENCE_S", 600.0)


def lease_s() -> float:
    """Return after how many seconds a silent launcher's lease lapses (PCAN_LEASE_S).

    All hosts of a storage must agree on it.
    """
    return _seconds("PCAN_LEASE_S", 180.0, least=1.0, most=86_400.0)


def host_name() -> str:
    """Return this host's name; PCAN_HOST replaces it where several share one."""
    return os.environ.get("PCAN_HOST") or socket.gethostname()


def gpu_lock_folder() -> Path:
    """Return the folder that all users of this machine lock GPUs in (PCAN_LOCKS)."""
    return Path(os.environ.get("PCAN_LOCKS") or Path(tempfile.gettempdir()) / "pcan-gpus")


def nvidia_smi() -> str | None:
    """Return the program that lists the GPUs, None without one (PCAN_NVIDIA_SMI)."""
    return os.environ.get("PCAN_NVIDIA_SMI") or shutil.which("nvidia-smi")


def _seconds(name: str, default: float, least: float = 0.0, most: float = math.inf) -> float:
    """Return a number of seconds from the environment.

    Raises:
        InputError: it is not a positive finite number within the bounds.
    """
    given = os.environ.get(name)
    if not given:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0 and least <= seconds <= most):
        raise InputError(f'{name} is "{given}". Write seconds, such as {default:g}, or unset it.')
    return seconds
