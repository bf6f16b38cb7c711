"""Before the first trial: everything that would make a launch fail, checked at once and fast."""

import os
import shutil
from collections.abc import Callable, Sequence

from pipeline.errors import NotReady
from pipeline.job.gpus import choose, list_gpus
from pipeline.job.slots import Slot, cpu_slots, gpu_slots
from pipeline.launch.weights import missing_checkpoints
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep

#: Below this a checkpoint of a small model may not fit; real need is checked by the doctor.
MIN_FREE_BYTES = 500_000_000


def find_slots(
    sweep: Sweep,
    device: str | None,
    gpus: str | None,
    most: int | None,
    say: Callable[[str], None],
    wait: bool = False,
) -> list[Slot]:
    """Return the slots of this machine.

    Args:
        device: "cpu", "cuda" or None to take GPUs where there are any.
        gpus: `--gpus`.
        most: `--slots`.
        say: prints one line.
        wait: GPUs in use by others count too; they are waited for.

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
        told = "; ".join(gpu.told() for gpu in busy)
        raise NotReady(f"{told}. Wait for them with --wait, or name others: --gpus")
    for gpu in busy:
        say(f"{gpu.told()}; left alone.")
    return gpu_slots(free, sweep.job.gpus, most)


def check_ready(sweep: Sweep, project: Project, variants: Sequence[str]) -> None:
    """Refuse a launch that lacks a starting checkpoint or disk space.

    Raises:
        NotReady: all that is wrong, most important first.
    """
    wrong = missing_checkpoints(sweep, project, variants)
    free = shutil.disk_usage(project.root).free
    if free < MIN_FREE_BYTES:
        wrong.append(
            f"Only {free / 1e9:.1f} GB are free in {project.root}; checkpoints need more. Make "
            "room: pcan sweep clean"
        )
    if wrong:
        raise NotReady("\n".join(wrong))
