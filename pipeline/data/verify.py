"""Compare packs with their videos, picture by picture."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.data.encode import FLOOR_DB, LOSSLESS, codec_of
from pipeline.data.prepare import PackingPlan
from pipeline.data.video import frames
from pipeline.shared.pack import Pack
from pipeline.shared.stills import decode

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class PackComparison:
    """One pack against its video."""

    clip: str
    kind: str
    psnr: float  # dB over all its pictures; infinite if they are the same
    largest: int  # difference of a pixel, of 255
    lossless: bool

    @property
    def close(self) -> bool:
        """Whether it is what its codec promises, a little tolerance left to JPEG's floor."""
        return self.largest == 0 if self.lossless else self.psnr > FLOOR_DB - 1.5


def verify(todo: PackingPlan, count: int) -> list[PackComparison]:
    """Decode `count` clips' videos again, evenly spread over each kind, and compare."""
    found = []
    for kind in ("train", "val"):
        packs = [
            (path, task)
            for path, task in todo.packs
            if path.is_relative_to(todo.root / kind) and path.exists()
        ]
        for path, task in spread(packs, count):
            with Pack(path) as pack:
                squares, largest = _differences(pack, task.video)
                lossless = codec_of(pack.meta) == LOSSLESS
            psnr = 10 * math.log10(255**2 / squares) if squares else math.inf
            found.append(PackComparison(task.name, kind, psnr, largest, lossless))
    return found


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, evenly spread."""
    if count >= len(items):
        return list(items)
    return [items[round(i * (len(items) - 1) / max(1, count - 1))] for i in range(count)]


def _differences(pack: Pack, video: Path) -> tuple[float, int]:
    """Return the mean squared and the largest difference over a pack's pictures."""
    left, top, right, bottom = pack.box
    numbers = set(pack.frames.tolist())
    squares, largest = [], 0
    for number, picture in enumerate(frames(video)):
        if number not in numbers:
            continue
        stored = decode(pack.still(number), (bottom - top, right - left))
        if stored is None:
            return 255.0**2, 255
        difference = stored.astype(np.int16) - picture[top:bottom, left:right]
        squares.append(float(np.mean(np.square(difference, dtype=np.float64))))
        largest = max(largest, int(np.abs(difference).max()))
    return float(np.mean(squares)), largest
