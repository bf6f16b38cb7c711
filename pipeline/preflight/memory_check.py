"""Whether a training fits into the memory of its device, from what the rehearsal measured.

The measurement is kept as long as config, data and code stay; what is free is asked each time.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.job.resolve import MemoryQuestion
from pipeline.job.slots import Slot
from pipeline.preflight.machine_limits import control_groups
from pipeline.shared.counted import counted

#: Above this share of what is free a training is said to be close to it.
CLOSE = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """What one rank of a job may take.

    Args:
        free: bytes.
        place: the device in words, such as "GPU 0".
        shared: how many ranks share it; `free` is each one's part.
        gpu: id of the GPU that is measured on, "" on the CPU.
        kind: name of that GPU.
    """

    free: int
    place: str
    shared: int = 1
    gpu: str = ""
    kind: str = ""

    def question(self, always: bool = False) -> MemoryQuestion:
        """Return what the rehearsal is asked."""
        return MemoryQuestion(
            device="cuda" if self.gpu else "cpu",
            free=self.free,
            gpu=self.gpu,
            kind=self.kind,
            always=always,
        )


@contextlib.contextmanager
def held_memory(slots: Sequence[Slot], ranks: int) -> Iterator[DeviceMemory | None]:
    """Yield `device_memory`, its GPU locked for the measurement; None if another launch has it."""
    memory = device_memory(slots, ranks)
    own = [s for s in slots if memory and memory.gpu and memory.gpu in s.visible.split(",")]
    taken = [slot for slot in own if slot.acquire("memory") is None]
    try:
        yield memory if len(taken) == len(own) else None
    finally:
        for slot in taken:
            slot.release()


def device_memory(slots: Sequence[Slot], ranks: int) -> DeviceMemory | None:
    """Return what a rank of these slots' jobs may take: on the GPU with the least that is free.

    GPUs that others use are left alone. None where the driver or the kernel does not say, or
    where all are in use.
    """
    gpus = [gpu for slot in slots for gpu in slot.gpus]
    if not slots:
        return None
    if not gpus:
        free, place = free_ram()
        sharing = ranks * max(1, len(slots))
        if free is None:
            return None
        return DeviceMemory(free=free // sharing, place=place, shared=sharing)
    known = [
        ((gpu.total_mib - gpu.used_mib) << 20, gpu)
        for gpu in gpus
        if gpu.total_mib is not None and gpu.used_mib is not None and not gpu.in_use
    ]
    if not known:
        return None
    free, gpu = min(known, key=lambda pair: pair[0])
    return DeviceMemory(free=free, place=f"GPU {gpu.index}", gpu=gpu.uuid, kind=gpu.name)


def free_ram(groups: Sequence[Path] | None = None) -> tuple[int | None, str]:
    """Return the bytes that new processes may take here, and which limit says so.

    The least of what the kernel calls available and of what each control group leaves; page cache
    of a group counts as free, since the kernel takes it back.

    Args:
        groups: folders of the control groups, this process's by default.
    """
    found = []
    available = _line(Path("/proc/meminfo"), "MemAvailable:")
    if available is not None:
        found.append((available * 1024, "this machine"))
    for folder in groups if groups is not None else control_groups():
        limit = _line(folder / "memory.max", "")
        used = _line(folder / "memory.current", "")
        if limit is not None and used is not None:
            cache = _line(folder / "memory.stat", "inactive_file ") or 0
            found.append((max(0, limit - used + cache), f"the control group {folder}"))
    return min(found) if found else (None, "")


def _line(file: Path, start: str) -> int | None:
    """Return the first number of the line that begins so, None if there is none."""
    try:
        lines = file.read_text().splitlines()
        found = next(text[len(start) :] for text in lines if text.startswith(start))
        return int(found.split()[0])
    except (OSError, StopIteration, ValueError, IndexError):
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryFinding:
    """A sentence on the memory of a training; `certain`: it cannot fit."""

    certain: bool
    sentence: str


def memory_findings(
    measured: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
    device: DeviceMemory,
    ranks: int,
) -> list[MemoryFinding]:
    """Return what does not fit, or hardly does, and the batch that would.

    Args:
        measured: of a rehearsal, None where nothing was measured.
        facts: of the resolved config.
        ranks: of a job.
    """
    if measured is None:
        return []
    found = []
    if measured["peak"] > CLOSE * device.free:
        sentence = _training(measured, facts, device, ranks)
        found.append(MemoryFinding(certain=measured["peak"] > device.free, sentence=sentence))
    val = measured["val_peak"]
    if val is not None and val > device.free:
        sentence = (
            f"a validation batch (val_dataloader.batch_size {measured['val_batch']}) takes "
            f"{size(val)} of {_free(device)}. Set val_dataloader.batch_size lower."
        )
        found.append(MemoryFinding(certain=True, sentence=sentence))
    return found


def _training(
    measured: Mapping[str, Any], facts: Mapping[str, Any], device: DeviceMemory, ranks: int
) -> str:
    batch, fixed, each = measured["batch"], measured["fixed"], measured["per_sample"]
    how = f"{size(fixed)} and {size(each)} a sample" if each else size(fixed)
    run = "measured" if batch in measured["sizes"] else "from smaller batches"
    text = (
        f"a training step (train_dataloader.batch_size {batch}) takes {size(measured['peak'])} "
        f"({how}, {run}) of {_free(device)}."
    )
    if measured["peak"] <= device.free:
        return text
    fits = int(CLOSE * (device.free - fixed) // each) if each else 0
    if fits < 1:
        return f"{text} No batch fits; make the model or the clips smaller, or use another device."
    fits = min(fits, batch - 1)
    consequence = _lr(facts, fits, ranks)
    return f"{text} A batch of {fits} fits: set train_dataloader.batch_size.{consequence}"


def _lr(facts: Mapping[str, Any], fits: int, ranks: int) -> str:
    """Return what a smaller batch does to the lr, by MMEngine's rule of proportion."""
    scale, lr, batch = facts.get("auto_scale_lr") or {}, facts.get("lr"), facts.get("batch_size")
    if not isinstance(lr, int | float) or not isinstance(batch, int):
        return ""
    base = scale.get("base_batch_size")
    if not scale.get("enable") or not base:
        return (
            f" The lr stays {lr:g} then (auto_scale_lr is off); in proportion to the batch it "
            f"would be {lr * fits / batch:.3g}."
        )
    was, now = (lr * size_ * ranks / base for size_ in (batch, fits))
    return (
        f" auto_scale_lr is on (base_batch_size {base}): the lr becomes {now:.3g} instead of "
        f"{was:.3g}."
    )


def _free(device: DeviceMemory) -> str:
    if device.shared == 1:
        return f"{size(device.free)} that {device.place} has free"
    whole = size(device.free * device.shared)
    shared = counted(device.shared, "rank")
    return f"{size(device.free)}, its part of {whole} that {device.place} has free for {shared}"


def size(count: float) -> str:
    """Return bytes in words: "1.5 GiB", "300 MiB"."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
