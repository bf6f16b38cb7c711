"""Patience: how long a run has not become better. One count for the judge and the simulator."""

import dataclasses
import math
from collections.abc import Iterable, Iterator


@dataclasses.dataclass(frozen=True)
class PatienceState:
    """How patience stands after a value: the best so far, its place, and how many came since."""

    best: float
    place: int
    waited: int


def patience_counts(values: Iterable[float], min_delta: float) -> Iterator[PatienceState]:
    """Count, after each value, how many in a row have stayed below best + min_delta.

    The best moves only when it is beaten by at least min_delta, as in MMEngine's
    EarlyStoppingHook 0.10 (its own `wait_count` is lost on resume; this has no state).
    """
    now = PatienceState(-math.inf, -1, 0)
    for place, value in enumerate(values):
        if not math.isfinite(value) or now.best + min_delta > value:
            now = PatienceState(now.best, now.place, now.waited + 1)
        else:
            now = PatienceState(value, place, 0)
        yield now
