"""How many batches an epoch has in each rank, and how large the last is: from lengths alone.

An epoch without a batch, one that never ends, and ranks with different numbers of batches (the
longer one waits for the others for ever) are known before a training is started.
"""

import itertools
import math
from typing import Any, Iterator, List, Optional

from pipeline.shared.counted import counted

#: A sampler that gives more than this many times as many indices as there are clips has no end.
_ENDLESS = 8


class EpochShape:
    """An epoch of one loader.

    Args:
        name: the loader in the config.
        loader: as the Runner builds it, for a single process.
        ranks: processes that share the clips.
    """

    def __init__(self, name: str, loader: Any, ranks: int) -> None:
        self.name = name
        self.ranks = ranks
        self.clips = len(loader.dataset)
        self._loader = loader
        self._sampler = loader.sampler

    @property
    def batch_size(self) -> Optional[int]:
        """Samples of a whole batch, None where a batch sampler of the config decides."""
        return self._loader.batch_size

    @property
    def drop_last(self) -> bool:
        return bool(getattr(self._loader, "drop_last", False))

    @property
    def endless(self) -> bool:
        """Whether the sampler gives indices without an end."""
        most = _ENDLESS * self.clips + 1000
        return sum(1 for _ in itertools.islice(iter(self._sampler), most)) == most

    @property
    def samples(self) -> Optional[List[int]]:
        """Samples of an epoch by rank, None where only the sampler's own code knows."""
        kind = type(self._sampler)
        if kind.__module__.startswith("mmengine.") and kind.__name__ == "DefaultSampler":
            if self._sampler.round_up:
                return [math.ceil(self.clips / self.ranks)] * self.ranks
            return [math.ceil((self.clips - r) / self.ranks) for r in range(self.ranks)]
        if self.ranks == 1 and hasattr(self._sampler, "__len__"):
            return [len(self._sampler)]
        return None

    @property
    def batches(self) -> Optional[List[int]]:
        """Batches of an epoch by rank, None where they are not known."""
        samples, size = self.samples, self.batch_size
        if samples is None or not size:
            return None
        whole = math.floor if self.drop_last else math.ceil
        return [whole(count / size) for count in samples]

    @property
    def smallest_batch(self) -> Optional[int]:
        """Samples of the smallest batch of an epoch, None where that is not known."""
        samples, size = self.samples, self.batch_size
        if samples is None or not size:
            return None
        rests = [count % size for count in samples if count > 0]
        cut = [rest for rest in rests if rest > 0 and not self.drop_last]
        return min([size, *cut])

    def text(self) -> str:
        """The lengths in words."""
        dropped = ", drop_last=True" if self.drop_last else ""
        ranks = f", {counted(self.ranks, 'rank')}" if self.ranks > 1 else ""
        return f"{counted(self.clips, 'clip')}{ranks}, batch_size {self.batch_size}{dropped}"


def shape_problems(shape: EpochShape, trained: bool) -> Iterator[str]:
    """Yield what of an epoch cannot be carried out.

    Args:
        trained: it is trained with, in step on all ranks; else validated.
    """
    if shape.endless:
        yield (
            f"{shape.name}: its sampler gives indices without an end, so an epoch never ends. "
            f'Write sampler=dict(type="DefaultSampler", shuffle={trained}).'
        )
        return
    batches = shape.batches
    if batches is None:
        return
    if min(batches) == max(batches) == 0 or (trained and min(batches) == 0):
        yield (
            f"{shape.name}: an epoch has no batch ({shape.text()}). Set a smaller batch_size, or "
            "drop_last=False."
        )
    elif trained and min(batches) != max(batches):
        yield (
            f"{shape.name}: the ranks would have {min(batches)} and {max(batches)} batches "
            f"({shape.text()}, round_up=False), and the one with more would wait for ever. Set "
            "sampler.round_up=True, or drop_last=True with a batch_size that gives all the same."
        )
