"""Counts how often a sample came from the video although packs were asked for."""

import logging
import multiprocessing
from typing import Any

log = logging.getLogger(__name__)


class Fallbacks:
    """A counter that all loader processes share; the first fallback is warned about once."""

    def __init__(self) -> None:
        self._count = multiprocessing.Value("L", 0)

    def __deepcopy__(self, memo: Any) -> "Fallbacks":
        return self  # pipelines are copied with their data sets; the count stays one

    @property
    def total(self) -> int:
        """How many samples so far."""
        return int(self._count.value)

    def count(self, reason: str) -> None:
        """Count one sample; say why if it is the first."""
        with self._count.get_lock():
            self._count.value += 1
            first = self._count.value == 1
        if first:
            log.warning(
                "Reading a clip from its video instead of its pack: %s. Others are counted only; "
                "to mend the packs: pcan data prepare SWEEP --verify 1",
                reason,
            )


def fallbacks_of(dataset: Any) -> int:
    """Return how many samples of a built data set came from videos instead of packs."""
    while not hasattr(dataset, "pipeline") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset  # RepeatDataset and the like
    steps = getattr(getattr(dataset, "pipeline", None), "transforms", ())
    return sum(step.fallbacks.total for step in steps if hasattr(step, "fallbacks"))
