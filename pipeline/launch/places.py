"""Where the next job may run: a slot whose GPUs neither we nor anybody else use."""

import time
from collections.abc import Callable, Collection, Sequence

from pipeline.errors import NotReady
from pipeline.job.slots import Slot
from pipeline.launch.stops import Stops

IDLE_S = 2.0
#: How long after a trial of ours the driver may still show its memory.
GPU_LAG_S = 30.0


class Places:
    """The slots of a launch.

    After `hold`, `blocked` says whether others were in the way of an idle launch.

    Args:
        wait: wait for GPUs that others use, instead of giving up.
        tell: prints one line, once.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        sweep: str,
        wait: bool,
        tell: Callable[[str], None],
        stops: Stops,
    ) -> None:
        self.blocked = False
        self._slots = slots
        self._sweep = sweep
        self._wait = wait
        self._tell = tell
        self._stops = stops
        self._lag_until = 0.0

    def hold(self, used: Collection[int], idle: bool) -> Slot | None:
        """Return a slot, held, whose GPUs nobody else uses; None if there is none.

        Args:
            used: numbers of the slots that our own jobs use.
            idle: we run nothing, so that there is nothing else to wait for.

        Raises:
            NotReady: idle, others use them all, and we were not asked to wait.
        """
        self.blocked = False
        held = []
        for slot in self._slots:
            if slot.number in used:
                continue
            holder = slot.hold(self._sweep) or slot.used_by_stranger()
            if holder is None:
                return slot
            slot.free()
            held.append(holder)
        if held and idle:
            self.blocked = True
            if not self._wait and time.monotonic() > self._lag_until:
                raise NotReady(f"{'; '.join(held)}. Wait for them with --wait, or name others.")
            self._tell(f"{'; '.join(held)}; waiting.")
            self._stops.sleep(IDLE_S)
        return None

    def free(self, slot: Slot) -> None:
        """Give a slot back after a job of ours."""
        if slot.gpus:
            self._lag_until = time.monotonic() + GPU_LAG_S
        slot.free()
