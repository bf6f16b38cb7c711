"""The GPUs of this machine and who uses them, as `nvidia-smi` lists them.

The control side never imports torch. The package `nvidia-ml-py` is not used: a driver that hangs
would hang this process with it, while a child has a time limit. `PCAN_NVIDIA_SMI` names another
program with the same output.
"""

import dataclasses
import os
import pwd
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.env import nvidia_smi
from pipeline.errors import InputError, NotReady

#: A driver and a desktop hold some memory of a GPU that is otherwise idle.
IDLE_MIB = 600
#: nvidia-smi's exit code where it finds no GPU.
_NO_DEVICES = 6
#: Seconds that the driver may take; a busy one takes several.
_ANSWER_S = 30
#: Words of CUDA_VISIBLE_DEVICES that give no GPU: "NoDevFiles" is SLURM's.
_NO_GPU_WORDS = {"-1", "nodevfiles", "none", "void"}
#: A line in the place of a GPU that fell off the bus.
_LOST = re.compile(r"\s*Unable to determine the device handle for GPU", re.IGNORECASE)
#: Lines among the rows that are about the driver, not about a process.
_CHATTER = re.compile(r"(?i)\s*(warning|no running|no devices)\b")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuProcess:
    """A process that holds memory of a GPU; `pid` and `used_mib` are None where not given."""

    pid: int | None
    name: str
    user: str
    used_mib: int | None

    def describe_usage(self) -> str:
        """Return its pid, name, user and memory, for a message."""
        if self.pid is None:
            return f"a process that nvidia-smi does not name ({self.name})"
        memory = "" if self.used_mib is None else f", {self.used_mib / 1024:.1f} GiB"
        return f"pid {self.pid} ({self.name}, {self.user}{memory})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU as the driver numbers it, memory in MiB, None where the driver gives none.

    Args:
        accepted: the user named it by `--gpus`, so unknown memory does not count as use.
    """

    index: int
    uuid: str
    name: str
    total_mib: int | None
    used_mib: int | None
    users: tuple[GpuProcess, ...] = ()
    accepted: bool = False

    @property
    def in_use(self) -> bool:
        """Whether a process holds more of it than an idle driver does, or that is not known."""
        if self.users or self.used_mib is None:
            return bool(self.users) or not self.accepted
        return self.used_mib > IDLE_MIB

    def describe_usage(self) -> str:
        """Return who uses it and how much of its memory, for a message."""
        who = ", ".join(user.describe_usage() for user in self.users)
        if self.used_mib is None:
            listed = f"in use by {who}" if who else "no process is listed"
            return (
                f"GPU {self.index} may be in use: nvidia-smi gives no figure of its memory, "
                f"{listed}" + ("" if who else f" (--gpus {self.index} takes it all the same)")
            )
        total = "" if self.total_mib is None else f" of {self.total_mib / 1024:.1f}"
        used = f"{self.used_mib / 1024:.1f}{total} GiB"
        return f"GPU {self.index} has {used} in use by {who or 'unknown'}"


@dataclasses.dataclass(frozen=True)
class GpuListing:
    """What `nvidia-smi` answers.

    Args:
        not_understood: the lines of its answers that are not rows of a GPU or a process.
    """

    gpus: tuple[Gpu, ...] = ()
    not_understood: tuple[str, ...] = ()

    @property
    def remark(self) -> str | None:
        """The lines that were not understood, in a sentence for the user."""
        if not self.not_understood:
            return None
        first, more = self.not_understood[0][:200], len(self.not_understood) - 1
        others = f" (and {more} more lines)" if more else ""
        return f'nvidia-smi also answered, which is not understood: "{first}"{others}.'


def list_gpus() -> list[Gpu]:
    """Return this machine's GPUs; none where there is no driver.

    Raises:
        NotReady: the driver's tool is there and fails.
    """
    return list(read_gpus().gpus)


def read_gpus() -> GpuListing:
    """Return this machine's GPUs, and what of the answers was not understood.

    Raises:
        NotReady: the driver's tool is there and fails.
    """
    if nvidia_smi() is None:
        return GpuListing()
    unclear: list[str] = []
    gpus: list[Gpu] = []
    for line in _query("--query-gpu=index,uuid,name,memory.total,memory.used"):
        gpu = _gpu(line)
        if gpu is None:
            unclear.append(line)
        else:
            gpus.append(gpu)
    if gpus:
        gpus = _with_users(gpus, unclear)
    return GpuListing(tuple(gpus), tuple(unclear))


def _gpu(line: str) -> Gpu | None:
    """Return the GPU of a row, None if it is not one; a name may hold commas."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) < 5 or not _is_number(fields[0]) or not re.fullmatch(r"GPU-[\w-]+", fields[1]):
        return None
    return Gpu(
        index=int(fields[0]),
        uuid=fields[1],
        name=", ".join(fields[2:-2]),
        total_mib=_mib(fields[-2]),
        used_mib=_mib(fields[-1]),
    )


def _with_users(gpus: Sequence[Gpu], unclear: list[str]) -> list[Gpu]:
    """Return the GPUs with the processes on them.

    A row that names no GPU may be about any of them, so all count as in use; one of a GPU that
    is hidden from this process is left out.
    """
    users: dict[str, list[GpuProcess]] = {gpu.uuid: [] for gpu in gpus}
    some_lost = any(map(_LOST.match, unclear))
    for line in _query("--query-compute-apps=gpu_uuid,pid,process_name,used_memory", some_lost):
        uuid = line.split(",")[0].strip()
        if _LOST.match(line):
            continue
        if _CHATTER.match(line):
            unclear += [line] if line.lower().lstrip().startswith("warning") else []
        elif uuid in users:
            users[uuid].append(_process(line))
        elif not re.fullmatch(r"GPU-[\w-]+", uuid):
            unclear.append(line)
            for listed in users.values():
                listed.append(GpuProcess(pid=None, name=line[:80], user="", used_mib=None))
    return [dataclasses.replace(gpu, users=tuple(users[gpu.uuid])) for gpu in gpus]


def _process(line: str) -> GpuProcess:
    """Return the process of a row `uuid, pid, name, memory`; a name may hold commas."""
    fields = [field.strip() for field in line.split(",")]
    pid = int(fields[1]) if len(fields) > 1 and _is_number(fields[1]) else None
    name = ", ".join(fields[2:-1] if len(fields) > 3 else fields[1:])
    return GpuProcess(
        pid=pid,
        name=Path(name).name or name,
        user="" if pid is None else _owner(pid),
        used_mib=_mib(fields[-1]),
    )


def choose(gpus: Sequence[Gpu], selection: str | None, visible: str | None) -> list[Gpu]:
    """Return the GPUs that may be used.

    Args:
        selection: `--gpus`: indices or UUIDs (the beginning is enough), None for all visible.
        visible: CUDA_VISIBLE_DEVICES, None if it is not set.

    Raises:
        InputError: the same GPU twice, or text that is neither a number nor a UUID.
        NotReady: no GPU is visible, or one is named that this machine does not have.
    """
    allowed = list(gpus) if visible is None else _visible(gpus, visible)
    if selection is None:
        return allowed
    chosen = _named(gpus, selection.split(","), f'--gpus "{selection}"')
    if not chosen:
        raise InputError(f'--gpus "{selection}" names no GPU. Write numbers, such as --gpus 0,1.')
    for gpu in chosen:
        if gpu not in allowed:
            raise NotReady(
                f'--gpus names GPU {gpu.index}, which CUDA_VISIBLE_DEVICES="{visible}" hides.'
            )
    return [dataclasses.replace(gpu, accepted=True) for gpu in chosen]


def _visible(gpus: Sequence[Gpu], text: str) -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES leaves; CUDA reads it up to the first "none"."""
    parts: list[str] = []
    for part in text.split(","):
        if part.strip().lower() in _NO_GPU_WORDS:
            break
        parts.append(part)
    allowed = _named(gpus, parts, f'CUDA_VISIBLE_DEVICES "{text}"')
    if not allowed:
        raise NotReady(
            f'No GPU is given to this shell: CUDA_VISIBLE_DEVICES is "{text}". In a job of SLURM '
            "ask for GPUs (--gres=gpu:N), elsewhere unset the variable; on the CPU: --device cpu"
        )
    return allowed


def _named(gpus: Sequence[Gpu], parts: Sequence[str], source: str) -> list[Gpu]:
    named: list[Gpu] = []
    for part in (p.strip() for p in parts if p.strip()):
        gpu = _one(gpus, part, source)
        if gpu in named:
            raise InputError(f"{source} names GPU {part} twice.")
        named.append(gpu)
    return named


def _one(gpus: Sequence[Gpu], part: str, source: str) -> Gpu:
    """Return the GPU of this number, or whose UUID begins so."""
    if part.startswith("MIG-"):
        raise NotReady(
            f"{source} names a slice of a GPU (MIG), and slices are not supported: a job's ranks "
            "cannot exchange gradients between them. Ask for whole GPUs; on the CPU: --device cpu"
        )
    if not _is_number(part) and not part.startswith("GPU-"):
        raise InputError(
            f'{source}: "{part}" is neither a number nor a GPU-... id. List them: nvidia-smi -L'
        )
    by_number = [g for g in gpus if _is_number(part) and g.index == int(part)]
    matches = by_number or [g for g in gpus if g.uuid.startswith(part)]
    if not matches:
        have = ", ".join(str(g.index) for g in gpus) or "none"
        raise NotReady(f"{source} names GPU {part}; this machine has: {have}.")
    if len(matches) > 1:
        raise InputError(
            f"{source}: the ids of {len(matches)} GPUs begin with {part}. Write more."
        )
    return matches[0]


def _only_lost(done: "subprocess.CompletedProcess[str]") -> bool:
    """Whether an answer is about processes, but for lines on GPUs that do not answer."""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return all(_LOST.match(line) or line.startswith("GPU-") for line in lines)


def _run_driver(program: str, option: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [program, option, "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotReady(
            f"{program} has not answered within {_ANSWER_S} s. Check the driver: nvidia-smi; on "
            "the CPU: --device cpu"
        ) from None
    except OSError as error:
        raise NotReady(
            f"{program} cannot be run: {error.strerror}. Check the driver: nvidia-smi; on the "
            "CPU: --device cpu"
        ) from None


def _query(option: str, some_lost: bool = False) -> list[str]:
    """Return the lines of an answer that are not blank.

    Args:
        some_lost: a GPU is known not to answer, which alone is no failure of the whole.
    """
    program = nvidia_smi()
    assert program is not None
    done = _run_driver(program, option)
    if done.returncode == _NO_DEVICES or done.stdout.strip() == "No devices were found":
        return []
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 and (any(map(_gpu, lines)) or (some_lost and _only_lost(done))):
        # One of several GPUs is lost, or its infoROM is damaged: the others can be used.
        return lines + [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode != 0:
        text = (done.stderr.strip() or done.stdout.strip()).splitlines()[:1]
        why = "".join(text)[:300].rstrip(".") or f"exit code {done.returncode}"
        raise NotReady(
            f"{program} failed: {why}. Check the driver: nvidia-smi; on the CPU: --device cpu"
        )
    return lines


def _owner(pid: int) -> str:
    try:
        return pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name
    except (OSError, KeyError, OverflowError):
        return "unknown user"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _mib(text: str) -> int | None:
    """Return a figure of memory, None for "[N/A]" and other words."""
    digits = text.split()[0] if text else ""
    return int(digits) if _is_number(digits) else None
