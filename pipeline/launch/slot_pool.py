"""Where the trials of a launch may run: its slots, and whether their GPUs are really free.

A lock keeps launches off each other's GPUs; the driver shows who else works there. After a trial
its GPUs stay locked until the driver shows them free, so that the next trial finds them whole.
"""

import os
import time
from collections.abc import Callable, Sequence

from pipeline.errors import NotReady
from pipeline.job.gpus import Gpu, choose, list_gpus, read_gpus
from pipeline.job.slots import Slot, cpu_slots, gpu_slots
from pipeline.launch.reporters import Reporter
from pipeline.plan.sweep import Sweep

#: How long a driver may take to give the memory of ended processes back.
GPU_DRAIN_S = 30.0
POLL_S = 1.0
#: How long a driver may fail to answer between two trials before a launch gives up, and how often
#: it is asked meanwhile: one call may take as long as its time limit.
DRIVER_PATIENCE_S = 600.0
DRIVER_RETRY_S = 60.0


def find_slots(
    sweep: Sweep,
    device: str | None,
    gpus: str | None,
    most: int | None,
    reporter: Reporter,
    wait: bool = False,
    patience_s: float = 0.0,
) -> list[Slot]:
    """Return the slots of this machine.

    Args:
        device: "cpu", "cuda" or None to take GPUs where there are any.
        gpus: `--gpus`.
        most: `--slots`.
        wait: GPUs in use by others count too; the launch waits for them.
        patience_s: how long GPUs that cannot be done without may take to become free.

    Raises:
        NotReady: GPUs are asked for, or needed, that are not there.
    """
    if device == "cpu":
        return cpu_slots(most)
    listing = read_gpus()
    if listing.remark is not None:
        reporter.on_message(listing.remark)
    if not listing.gpus:
        return _without_gpus(most, reporter, named=device is not None or gpus is not None)
    allowed = choose(listing.gpus, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    busy = [gpu for gpu in allowed if gpu.in_use and not wait]
    free = [gpu for gpu in allowed if gpu not in busy]
    short = len(free) < sweep.job.gpus * (most or 1) <= len(allowed)
    if busy and (gpus is not None or short):
        if patience_s > 0:
            time.sleep(POLL_S)
            return find_slots(sweep, device, gpus, most, reporter, wait, patience_s - POLL_S)
        raise NotReady(f"{_usage(busy)}. Wait for them with --wait, or name others: --gpus")
    for gpu in busy:
        reporter.on_message(f"{gpu.describe_usage()}; left alone.")
    return gpu_slots(free, sweep.job.gpus, most)


def _without_gpus(most: int | None, reporter: Reporter, *, named: bool) -> list[Slot]:
    """Return slots on the CPU, unless GPUs were named by an option."""
    if named:
        raise NotReady(
            "This machine shows no GPU (nvidia-smi is missing or lists none). On the CPU: "
            "--device cpu"
        )
    reporter.on_message(
        "No GPU here: the jobs train on the CPU (--device cpu does so without this line)."
    )
    return cpu_slots(most)


def _usage(gpus: Sequence[Gpu]) -> str:
    return "; ".join(gpu.describe_usage() for gpu in gpus)


class SlotPool:
    """The slots of one launch.

    Args:
        wait: wait for GPUs that others use rather than refuse to run.
        query: asks the driver for the GPUs as they are now.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        wait: bool,
        reporter: Reporter,
        query: Callable[[], list[Gpu]] = list_gpus,
    ) -> None:
        #: After an `acquire` that returned None: who holds the GPUs that could be used.
        self.blocked_by = ""
        self._slots = slots
        self._wait = wait
        self._reporter = reporter
        self._query = query
        self._acquired: set[int] = set()
        self._draining: dict[int, tuple[Slot, str, float]] = {}
        self._gpus: tuple[float, list[Gpu]] = (-POLL_S, [])
        #: Since when the driver fails, when it was last asked, and what it answers.
        self._failing: tuple[float, float, NotReady] | None = None

    @property
    def draining(self) -> bool:
        """Whether GPUs of an ended trial are not known to be free yet."""
        return bool(self._draining)

    def acquire(self, trial: str) -> Slot | None:
        """Hold a slot for a trial; None while none is free.

        Raises:
            NotReady: others hold them all, nothing of ours runs, and waiting was not asked for; or
                the driver has not answered for `DRIVER_PATIENCE_S`.
        """
        problems = []
        for slot in self._slots:
            if slot.number in self._acquired or slot.number in self._draining:
                continue
            problem = slot.acquire(trial) or self._usage_if_known(slot)
            if problem is None:
                self._acquired.add(slot.number)
                self.blocked_by = ""
                return slot
            slot.release()
            problems.append(problem)
        self.blocked_by = "; ".join(problems)
        if not problems or self._acquired or self._draining:
            return None
        if self._failing is not None:
            since, asked, error = self._failing
            if asked - since >= DRIVER_PATIENCE_S:
                raise error
        elif not self._wait:
            raise NotReady(f"{self.blocked_by}. Wait for them with --wait, or name others: --gpus")
        return None

    def release(self, slot: Slot, trial: str | None = None) -> None:
        """Give a slot back.

        Args:
            trial: the trial whose job has run on it; its GPUs are watched until they are free.
        """
        self._acquired.discard(slot.number)
        if trial is None or not slot.gpus:
            slot.release()
            return
        self._draining[slot.number] = (slot, trial, time.monotonic())

    def poll(self) -> None:
        """Release slots of ended trials whose GPUs are free; report what is left on others."""
        for number, (slot, trial, since) in list(self._draining.items()):
            try:
                left = self._foreign_usage(slot)
            except NotReady as error:  # a driver that is busy ends no launch
                left = str(error)
            if left is not None and time.monotonic() - since < GPU_DRAIN_S:
                continue
            if left is not None:
                self._reporter.on_message(
                    f"{left} {GPU_DRAIN_S:g} s after {trial} ended; not used until it is free."
                )
            slot.release()
            del self._draining[number]

    def close(self) -> None:
        """Wait until the GPUs of all ended trials are free, or report what is left on them."""
        while self._draining:
            self.poll()
            if self._draining:
                time.sleep(0.2)

    def _usage_if_known(self, slot: Slot) -> str | None:
        """Return who works on a slot's GPUs, or what a failing driver answers."""
        now = time.monotonic()
        if self._failing is not None and now - self._failing[1] < DRIVER_RETRY_S:
            return str(self._failing[2])
        try:
            usage = self._foreign_usage(slot)
        except NotReady as error:
            if self._failing is None:
                self._reporter.on_message(
                    f"{error} It is asked again every {DRIVER_RETRY_S:g} s, for "
                    f"{DRIVER_PATIENCE_S / 60:g} min."
                )
            since = self._failing[0] if self._failing is not None else now
            self._failing = (since, now, error)
            return str(error)
        self._failing = None
        return usage

    def _foreign_usage(self, slot: Slot) -> str | None:
        """Return who works on a slot's GPUs, None if they are free."""
        if not slot.gpus:
            return None
        queried, gpus = self._gpus
        if time.monotonic() - queried >= POLL_S:
            gpus = self._query()
            self._gpus = (time.monotonic(), gpus)
        return slot.foreign_usage(gpus)
