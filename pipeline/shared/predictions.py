"""What class each validation clip was given: one small file an epoch.

Written by rank 0 of a job, so this module keeps to Python 3.8 and the standard library.
"""

import array
import dataclasses
import json
import sys
import zlib
from typing import Dict, List, Optional, Sequence, Tuple

from pipeline.shared.counted import counted

#: Column of the true coarse class, among the further ones.
TRUE_COARSE = "true_coarse"
#: Ending of the columns of coarse predictions: "rgb_coarse".
COARSE = "_coarse"


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The class that each validation clip was given after one epoch.

    Args:
        metric: the objective, which these predictions reproduce.
        top1: its value.
        ids: digest of the clips' names and labels in order; equal: the same clips.
        predicted: one class a clip, in the order of the data set.
        labels: the true classes, likewise.
        classes: how many the model has; None in a file of an earlier version.
        columns: further columns by name: the class that each branch gave ("rgb", "pose"), its
            coarse class ("rgb_coarse"), and the true coarse class (`TRUE_COARSE`).
    """

    epoch: int
    metric: str
    top1: float
    ids: str
    predicted: "array.array[int]"
    labels: "array.array[int]"
    classes: Optional[int] = None
    columns: Dict[str, "array.array[int]"] = dataclasses.field(default_factory=dict)

    #: First bytes of a file: what it is, and the version of its form.
    MAGIC = b"pcan predictions 1\n"

    def to_bytes(self) -> bytes:
        """Return the file: the magic line, a JSON line, both columns as packed uint16.

        Further columns follow in a packing of their own, which an earlier version does not open.
        """
        header = {
            "epoch": self.epoch,
            "metric": self.metric,
            "top1": self.top1,
            "clips": len(self.labels),
            "ids": self.ids,
            "classes": self.classes,
            "columns": list(self.columns),
        }
        further = _pack(list(self.columns.values())) if self.columns else b""
        packed = _pack([self.predicted, self.labels]) + further
        return self.MAGIC + json.dumps(header).encode() + b"\n" + packed

    @classmethod
    def from_bytes(cls, data: bytes) -> "Predictions":
        """Parse a file; raise ValueError if it is damaged or something else."""
        if not data.startswith(cls.MAGIC):
            raise ValueError("not a file of predictions")
        line, _, packed = data[len(cls.MAGIC) :].partition(b"\n")
        try:
            header = json.loads(line)
            size, names = int(header["clips"]), [str(n) for n in header.get("columns") or ()]
            (predicted, labels), rest = _unpack(packed, 2, size)
            further, _ = _unpack(rest, len(names), size) if names else ([], b"")
            epoch, top1 = int(header["epoch"]), float(header["top1"])
            metric, ids = str(header["metric"]), str(header["ids"])
            classes = None if header.get("classes") is None else int(header["classes"])
        except (zlib.error, KeyError, TypeError) as error:
            raise ValueError(f"damaged predictions: {error!r}") from error
        columns = dict(zip(names, further))
        return cls(epoch, metric, top1, ids, predicted, labels, classes, columns)


def _pack(columns: Sequence["array.array[int]"]) -> bytes:
    return zlib.compress(b"".join(_little(one).tobytes() for one in columns))


def _unpack(packed: bytes, count: int, size: int) -> Tuple[List["array.array[int]"], bytes]:
    """Return `count` columns of `size` clips, and the bytes behind them; raise ValueError."""
    unpacking = zlib.decompressobj()
    whole = 2 * size * count
    data = unpacking.decompress(packed, whole + 1)  # at most one byte more than announced
    if len(data) != whole or not unpacking.eof:
        raise ValueError(f"{len(data)} bytes for {counted(size, 'clip')}")
    parts = [data[2 * size * i : 2 * size * (i + 1)] for i in range(count)]
    return [_little(array.array("H", part)) for part in parts], unpacking.unused_data


def _little(column: "array.array[int]") -> "array.array[int]":
    """Return a column in the byte order of the file (or, from the file, of this machine)."""
    if sys.byteorder == "little":
        return column
    swapped = array.array("H", column)
    swapped.byteswap()
    return swapped
