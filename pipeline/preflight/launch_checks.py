"""Before the first trial: everything that would make a launch fail, checked at once and fast."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import InputError, NotReady
from pipeline.job.gpus import choose, list_gpus
from pipeline.job.slots import Slot, cpu_slots, gpu_slots
from pipeline.launch.slot_pool import POLL_S
from pipeline.launch.timeouts import stall_floor_s, storage_patience_s
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.preflight.starting_weights import checksum_mismatches, missing_checkpoints

#: Wanted where nothing tells how large a checkpoint will be.
MIN_FREE_BYTES = 500_000_000


def find_slots(
    sweep: Sweep,
    device: str | None,
    gpus: str | None,
    most: int | None,
    say: Callable[[str], None],
    wait: bool = False,
    patience_s: float = 0.0,
) -> list[Slot]:
    """Return the slots of this machine.

    Args:
        device: "cpu", "cuda" or None to take GPUs where there are any.
        gpus: `--gpus`.
        most: `--slots`.
        say: prints one line.
        wait: GPUs in use by others count too; they are waited for.
        patience_s: how long GPUs that cannot be done without may take to become free.

    Raises:
        NotReady: GPUs are asked for, or needed, that are not there.
    """
    if device == "cpu":
        return cpu_slots(most)
    found = list_gpus()
    if not found and device is None and gpus is None:
        say("No GPU here: the jobs train on the CPU (--device cpu says so without this line).")
        return cpu_slots(most)
    if not found:
        raise NotReady(
            "This machine shows no GPU (nvidia-smi is missing or lists none). On the CPU: "
            "--device cpu"
        )
    allowed = choose(found, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    busy = [gpu for gpu in allowed if gpu.in_use and not wait]
    free = [gpu for gpu in allowed if gpu not in busy]
    short = len(free) < sweep.job.gpus * (most or 1) <= len(allowed)
    if busy and (gpus is not None or short):
        if patience_s > 0:
            time.sleep(POLL_S)
            return find_slots(sweep, device, gpus, most, say, wait, patience_s - POLL_S)
        told = "; ".join(gpu.describe_usage() for gpu in busy)
        raise NotReady(f"{told}. Wait for them with --wait, or name others: --gpus")
    for gpu in busy:
        say(f"{gpu.describe_usage()}; left alone.")
    return gpu_slots(free, sweep.job.gpus, most)


def check_ready(sweep: Sweep, project: Project, variants: Sequence[str]) -> None:
    """Refuse a launch that lacks a starting checkpoint, disk space, or a folder to write in.

    The fast part of `pcan doctor`: milliseconds, before every launch; a second more where the
    sweep file names the digest of a large checkpoint.

    Raises:
        NotReady: all that is wrong, most important first.
        InputError: a starting checkpoint is no checkpoint, or not the one that is named.
    """
    stall_floor_s(), storage_patience_s()  # told here, not when a trial runs
    wrong = missing_checkpoints(sweep, project, variants)
    wrong += [t for t in (unwritable_reason(project.runs), loopback_problem()) if t is not None]
    need, why = disk_need(sweep, project, len(variants))
    free = free_bytes(project)
    if free < need:
        wrong.append(
            f"Only {free / 1e9:.1f} GB are free in {project.runs}, and {need / 1e9:.1f} GB are "
            f"needed ({why}). Make room: pcan sweep clean"
        )
    if wrong:
        raise NotReady("\n".join(wrong))
    for name in variants:
        start = sweep.variants[name].warm_start
        if start is not None and (project.root / start.checkpoint).is_file():
            _refuse_no_checkpoint(project.root / start.checkpoint)
    altered = checksum_mismatches(sweep, project, variants)
    if altered:
        raise InputError("\n".join(altered))


def disk_need(sweep: Sweep | None, project: Project, variants: int) -> tuple[int, str]:
    """Return the bytes that the checkpoints to come may take, and where the figure is from.

    A trial keeps its newest two and its best checkpoint; one more is being written.
    """
    found = [0]
    if sweep is not None:
        files = (project.runs / sweep.name).glob("*/*/checkpoints/epoch_*.pth")
        found += [file.stat().st_size for file in files]
        starts = {v.warm_start.checkpoint for v in sweep.variants.values() if v.warm_start}
        # Beside the weights a checkpoint holds the optimizer's state: momentum, or two moments.
        weights = [project.root / name for name in starts]
        found += [3 * file.stat().st_size for file in weights if file.is_file()]
    if max(found) == 0:
        return MIN_FREE_BYTES, "the size of a checkpoint is not known yet"
    need = (3 * variants + 1) * max(found)
    why = f"{variants} trials of 3 checkpoints of up to {max(found) / 1e6:.0f} MB"
    return max(need, MIN_FREE_BYTES // 10), why


def free_bytes(project: Project) -> int:
    """Return the room there is for runs, which may lie on a disk of their own."""
    return shutil.disk_usage(project.runs if project.runs.is_dir() else project.root).free


def unwritable_reason(runs: Path) -> str | None:
    """Say why runs cannot be written, None if they can."""
    if runs.exists() and not runs.is_dir():
        return f"{runs} is a file; runs are written there. Move it away."
    folder = runs if runs.is_dir() else runs.parent
    try:
        handle, name = tempfile.mkstemp(prefix=".pcan-", dir=folder)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}. Mend it, or run as its owner."
    return None


def loopback_problem() -> str | None:
    """Say why the ranks of a job could not meet on the loopback address, None if they can."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
    except OSError as error:
        return (
            f"No port can be opened on 127.0.0.1 ({error.strerror}), where the two ranks of a job "
            "meet. Bring the loopback interface up: ip link set lo up"
        )
    return None


def _refuse_no_checkpoint(path: Path) -> None:
    """Refuse by its first bytes what can be no checkpoint; the job reads the rest."""
    with open(path, "rb") as stream:
        head = stream.read(512)
    if not head:
        raise InputError(f"The checkpoint {path} is empty (0 bytes). Copy it again.")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the checkpoint. Run: git lfs pull")
    if head.lstrip()[:1] == b"<":
        raise InputError(f"{path} is a web page, not a checkpoint. Download the file itself.")
