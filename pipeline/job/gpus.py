"""The GPUs of this machine and who uses them, as `nvidia-smi` lists them.

The control side never imports torch. The package `nvidia-ml-py` is not used: a driver that hangs
would hang this process with it, while a child has a time limit. `PCAN_NVIDIA_SMI` names another
program with the same output.
"""

import csv
import dataclasses
import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.env import nvidia_smi
from pipeline.errors import InputError, NotReady

#: A driver and a desktop hold some memory of a GPU that is otherwise idle.
IDLE_MIB = 600


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuProcess:
    """A process that holds memory of a GPU."""

    pid: int
    name: str
    user: str
    used_mib: int | None

    def describe_usage(self) -> str:
        """Return its pid, name, user and memory, for a message."""
        memory = "" if self.used_mib is None else f", {self.used_mib / 1024:.1f} GiB"
        return f"pid {self.pid} ({self.name}, {self.user}{memory})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU as the driver numbers it, memory in MiB."""

    index: int
    uuid: str
    name: str
    total_mib: int
    used_mib: int
    users: tuple[GpuProcess, ...] = ()

    @property
    def in_use(self) -> bool:
        """Whether a process holds more of it than an idle driver does."""
        return bool(self.users) or self.used_mib > IDLE_MIB

    def describe_usage(self) -> str:
        """Return who uses it and how much of its memory, for a message."""
        who = ", ".join(user.describe_usage() for user in self.users)
        used, total = self.used_mib / 1024, self.total_mib / 1024
        return f"GPU {self.index} has {used:.1f} of {total:.1f} GiB in use by {who or 'unknown'}"


def list_gpus() -> list[Gpu]:
    """Return this machine's GPUs; none where there is no driver.

    Raises:
        NotReady: the driver's tool is there and fails.
    """
    if nvidia_smi() is None:
        return []
    fields = "index,uuid,name,memory.total,memory.used"
    rows = _query(f"--query-gpu={fields}")
    users = _users()
    return [
        Gpu(
            index=int(index),
            uuid=uuid,
            name=name,
            total_mib=_mib(total) or 0,
            used_mib=_mib(used) or 0,
            users=tuple(users.get(uuid, [])),
        )
        for index, uuid, name, total, used in rows
    ]


def choose(gpus: Sequence[Gpu], selection: str | None, visible: str | None) -> list[Gpu]:
    """Return the GPUs that may be used.

    Args:
        selection: `--gpus`: indices or UUIDs (the beginning is enough), None for all visible.
        visible: CUDA_VISIBLE_DEVICES, None if it is not set.

    Raises:
        InputError: the same GPU twice, or text that is neither a number nor a UUID.
        NotReady: a GPU that this machine does not have.
    """
    allowed = list(gpus) if visible is None else _named(gpus, visible, "CUDA_VISIBLE_DEVICES")
    if selection is None:
        return allowed
    chosen = _named(gpus, selection, "--gpus")
    for gpu in chosen:
        if gpu not in allowed:
            raise NotReady(
                f'--gpus names GPU {gpu.index}, which CUDA_VISIBLE_DEVICES="{visible}" hides.'
            )
    return chosen


def _named(gpus: Sequence[Gpu], text: str, source: str) -> list[Gpu]:
    named: list[Gpu] = []
    for part in (p.strip() for p in text.split(",") if p.strip()):
        if part.isdigit():
            matches = [g for g in gpus if g.index == int(part)]
        elif part.startswith(("GPU-", "MIG-")):
            matches = [g for g in gpus if g.uuid.startswith(part)]
        else:
            raise InputError(f'{source} "{text}": "{part}" is neither a number nor a GPU-... id.')
        if not matches:
            have = ", ".join(str(g.index) for g in gpus) or "none"
            raise NotReady(f'{source} "{text}" names GPU {part}; this machine has: {have}.')
        if matches[0] in named:
            raise InputError(f'{source} "{text}" names GPU {part} twice.')
        named.append(matches[0])
    return named


def _query(option: str) -> list[list[str]]:
    program = nvidia_smi()
    assert program is not None
    try:
        done = subprocess.run(
            [program, option, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotReady(
            f"{program} does not answer: {error}. Check the driver: nvidia-smi"
        ) from None
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip().splitlines()[:1]
        raise NotReady(f"{program} failed: {''.join(text)}. Check the driver: nvidia-smi")
    rows = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in rows if row]


def _users() -> dict[str, list[GpuProcess]]:
    users: dict[str, list[GpuProcess]] = {}
    option = "--query-compute-apps=gpu_uuid,pid,process_name,used_memory"
    for uuid, pid, name, used in _query(option):
        user = GpuProcess(
            pid=int(pid), name=Path(name).name, user=_owner(int(pid)), used_mib=_mib(used)
        )
        users.setdefault(uuid, []).append(user)
    return users


def _owner(pid: int) -> str:
    try:
        return pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name
    except (OSError, KeyError):
        return "unknown user"


def _mib(text: str) -> int | None:
    digits = text.split()[0] if text else ""
    return int(digits) if digits.isdigit() else None
