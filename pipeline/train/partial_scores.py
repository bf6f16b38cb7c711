"""The scores of a reading that is not finished, so that a kill costs a batch and not the reading.

One line of JSON, then a fixed number of bytes a clip, appended batch by batch. Whatever a killed
writer left of a clip is cut off.
"""

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from pipeline.train.keep_predictions import Clip


class PartialScores:
    """The clips that a reading has got so far.

    Args:
        path: of the file; deleted by `remove` when the reading is whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._form: Optional[Dict[str, Any]] = None
        self.clips: List[Clip] = self._read()

    def add(self, clips: Sequence[Clip]) -> None:
        """Append the clips of a batch."""
        if self._form is None and clips:
            first = clips[0].branches
            sizes = {name: len(score) for name, score in first.items()}
            self._form = {"branches": sizes}
            self._path.write_bytes(json.dumps(self._form).encode() + b"\n")
        with open(str(self._path), "ab") as stream:
            stream.write(b"".join(_packed(clip) for clip in clips))
        self.clips += clips

    def remove(self) -> None:
        """Delete the file."""
        if self._path.exists():
            self._path.unlink()

    def _read(self) -> List[Clip]:
        try:
            data = self._path.read_bytes()
            line, end, rows = data.partition(b"\n")
            sizes = {str(k): int(v) for k, v in json.loads(line)["branches"].items()}
        except (OSError, ValueError, KeyError, AttributeError):
            return []
        if not end:
            return []
        self._form = {"branches": sizes}
        size = 4 + 2 * sum(sizes.values())
        whole = len(rows) // size
        os.truncate(str(self._path), len(line) + 1 + whole * size)
        return [_unpacked(rows[i * size : (i + 1) * size], sizes) for i in range(whole)]


def _packed(clip: Clip) -> bytes:
    head = np.array([clip.predicted, clip.label], dtype="<u2").tobytes()
    return head + b"".join(score.astype("<f2").tobytes() for score in clip.branches.values())


def _unpacked(row: bytes, sizes: Dict[str, int]) -> Clip:
    predicted, label = np.frombuffer(row[:4], dtype="<u2").tolist()
    values = np.frombuffer(row[4:], dtype="<f2")
    branches, start = {}, 0
    for name, size in sizes.items():
        branches[name] = values[start : start + size].astype(np.float16)
        start += size
    return Clip(predicted, label, branches, columns={})  # scores have no further columns
