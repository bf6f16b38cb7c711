"""Places of this machine for processes that read clips: a GPU each, or the CPU."""

import time
from collections.abc import Sequence

from pipeline.job.slots import Slot
from pipeline.launch.reporters import Reporter
from pipeline.launch.slot_pool import POLL_S, SlotPool, find_slots
from pipeline.plan.sweep import Sweep


def find_reading_slots(
    sweep: Sweep,
    device: str | None,
    gpus: str | None,
    most: int | None,
    reporter: Reporter,
    wait: bool,
) -> list[Slot]:
    """Return the places; one process needs one GPU, however many a job has.

    Raises:
        NotReady: GPUs are asked for that are not there.
    """
    single = sweep.model_copy(update={"job": sweep.job.model_copy(update={"gpus": 1})})
    return find_slots(single, device, gpus, most, reporter, wait)


def acquire_slots(slots: Sequence[Slot], name: str, reporter: Reporter, wait: bool) -> list[Slot]:
    """Hold every place that is free, at least one.

    Raises:
        NotReady: others hold them all, and waiting was not asked for.
    """
    pool = SlotPool(slots, wait, reporter)
    held: list[Slot] = []
    while not held:
        while (slot := pool.acquire(name)) is not None:
            held.append(slot)
        if not held:
            reporter.on_status(f"{pool.blocked_by}; waiting.")
            time.sleep(POLL_S)
    return held
