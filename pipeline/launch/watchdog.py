"""Distinguish a job that hangs from one that is slow, and find the rank that stands.

The job writes where it is after every step (`progress.json`). How long a step takes is learnt for
each phase; a job that makes no step for many times as long counts as stalled. Only a clock that
never jumps is used, and only time in which this launcher itself was awake counts.
"""

import re
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.env import stall_floor_s
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir

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
#: Where a rank is that waits for the others.
_WAITING = re.compile(
    r"torch/(?:distributed|nn/parallel|autograd|_tensor)|mmengine/(?:dist|model/wrappers)|"
    r"pipeline/train/distributed"
)
#: The thread that runs the training is the last that faulthandler writes.
_MAIN = re.compile(r"(?:Current t|T)hread 0x[0-9a-f]+ .*\(most recent call first\):\n")
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (\S+)$', re.M)  # a path may hold a quote


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
            f"no step for {self._quiet:.0f} s{self._usual()}, {_last_sign(progress)}; the "
            "stacks of all ranks are in their logs"
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


def _last_sign(progress: Mapping[str, Any]) -> str:
    if not progress:
        return "before its first sign of life"
    step = f" {progress['iter']}/{progress['iters']}" if progress.get("iters") else ""
    return f"in epoch {progress.get('epoch')}, {progress.get('phase')}{step}"


def log_sizes(rundir: RunDir, ranks: int) -> list[int]:
    """Return the present sizes of the ranks' logs."""
    files = [rundir.rank_log(rank) for rank in range(ranks)]
    return [file.stat().st_size if file.exists() else 0 for file in files]


def standing_ranks(rundir: RunDir, since: Sequence[int]) -> str:
    """Return a clause on the ranks that do not wait for others, "" if that cannot be said.

    Args:
        since: the sizes of the logs before the ranks were asked for their stacks.
    """
    places = [_place(rundir, rank, start) for rank, start in enumerate(since)]
    standing = [rank for rank, place in enumerate(places) if place is None or not _waits(place)]
    if not standing or (len(standing) == len(places) and len(places) > 1):
        return ""
    named = [f"rank {rank} {_frame(places[rank])} (rank{rank}.log)" for rank in standing]
    waiting = "; the others wait for it" if len(standing) < len(places) else ""
    return f": {', '.join(named)}{waiting}"


def _place(rundir: RunDir, rank: int, start: int) -> list[tuple[str, str, str]] | None:
    """Return the frames of a rank's main thread, innermost first; None if it wrote none."""
    try:
        with open(rundir.rank_log(rank), "rb") as stream:
            stream.seek(start)
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return None
    stacks = _MAIN.split(text)
    return _FRAME.findall(stacks[-1]) if len(stacks) > 1 else None


def _waits(frames: Sequence[tuple[str, str, str]]) -> bool:
    return bool(frames) and _WAITING.search(frames[0][0]) is not None


def _frame(frames: Sequence[tuple[str, str, str]] | None) -> str:
    if not frames:
        return "does not answer"
    file, line, function = frames[0]
    return f"stands in {function}, {file.rpartition('/')[2]}:{line}"


def read_progress(rundir: RunDir) -> Mapping[str, Any]:
    """Return where a running job is inside its epoch, empty while it starts."""
    return read_json(rundir.progress) or {}
