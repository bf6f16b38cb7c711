"""Distinguish a job that hangs from one that is slow.

The job writes where it is after every step (`progress.json`). How long a step takes is learnt for
each phase; a job that makes no step for many times as long counts as stalled. Only a clock that
never jumps is used, and only time in which this launcher itself was awake counts.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.env import stall_floor_s

#: Factors on the floor where the pace is not known yet: the first step of a phase, ...
UNKNOWN = 2
#: ... and the start, when data sets are read and models built.
STARTING = 12
#: A step may take this many times the median of its phase, ...
MEDIANS = 30
#: ... and this many times the longest one seen.
LONGEST = 4
#: A longer pause between two checks was the launcher's own sleep, not the job's.
AWAKE_S = 2.0


class Watchdog:
    """Watches the steps of one start of a job.

    Args:
        floor_s: seconds without a step that are always allowed; None: the usual.
        clock: monotonic seconds.
    """

    def __init__(
        self, floor_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._floor = stall_floor_s() if floor_s is None else floor_s
        self._clock = clock
        self._gaps: dict[str, deque[float]] = {}
        self._place: tuple[Any, ...] = ()
        self._phase = "starting"
        self._checked = clock()
        self._quiet = 0.0  # seconds since the last step, as far as the launcher was awake

    def check(self, progress: Mapping[str, Any]) -> str | None:
        """Return None while the job makes steps, a sentence once it is stalled.

        Args:
            progress: the content of `progress.json`, empty before the first step.
        """
        now = self._clock()
        self._quiet += min(now - self._checked, AWAKE_S)
        self._checked = now
        place = tuple(progress.get(key) for key in ("epoch", "phase", "iter"))
        if progress and place != self._place:
            self._moved(place, progress)
            return None
        if self._quiet <= self.limit_s:
            return None
        return (
            f"no step for {self._quiet:.0f} s{self._usual()}, {_where(progress)}; the stacks of "
            "all ranks are in their logs"
        )

    @property
    def quiet_s(self) -> float:
        """Seconds since the last step, as far as the launcher was awake."""
        return self._quiet

    @property
    def longest_s(self) -> float:
        """The longest step of the present phase, 0 before the first."""
        return max(self._gaps.get(self._phase, (0.0,)))

    @property
    def limit_s(self) -> float:
        """How long the present step may take."""
        gaps = self._gaps.get(self._phase)
        if self._phase == "starting":
            return STARTING * self._floor
        if not gaps:
            return UNKNOWN * self._floor
        return max(self._floor, MEDIANS * statistics.median(gaps), LONGEST * max(gaps))

    def _moved(self, place: tuple[Any, ...], progress: Mapping[str, Any]) -> None:
        if self._place:
            self._gaps.setdefault(self._phase, deque(maxlen=200)).append(self._quiet)
        self._place, self._quiet = place, 0.0
        # The step out of a phase (gathering results, the first batch) has a pace of its own.
        steps, step = progress.get("iters"), progress.get("iter")
        last, first = steps and step == steps, steps and step == 0
        part = " end" if last else " begin" if first else ""
        self._phase = f"{progress.get('phase')}{part}"

    def _usual(self) -> str:
        gaps = self._gaps.get(self._phase)
        return f" (usual: {statistics.median(gaps):.1f} s)" if gaps else ""


def _where(progress: Mapping[str, Any]) -> str:
    if not progress:
        return "before its first sign of life"
    step = f" {progress['iter']}/{progress['iters']}" if progress.get("iters") else ""
    return f"in epoch {progress.get('epoch')}, {progress.get('phase')}{step}"
