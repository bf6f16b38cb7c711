"""What class each validation clip was given: one small file an epoch.

Written by rank 0 of a job, so this module keeps to Python 3.8 and the standard library.
"""

import array
import dataclasses
import json
import sys
import zlib

from pipeline.shared.counted import counted


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The class that each validation clip was given after one epoch.

    Args:
        metric: the objective, which these predictions reproduce.
        top1: its value.
        ids: digest of the clips' names and labels in order; equal: the same clips.
        predicted: one class a clip, in the order of the data set.
        labels: the true classes, likewise.
    """

    epoch: int
    metric: str
    top1: float
    ids: str
    predicted: "array.array[int]"
    labels: "array.array[int]"

    #: First bytes of a file: what it is, and the version of its form.
    MAGIC = b"pcan predictions 1\n"

    def to_bytes(self) -> bytes:
        """Return the file: the magic line, a JSON line, both columns as packed uint16."""
        header = {
            "epoch": self.epoch,
            "metric": self.metric,
            "top1": self.top1,
            "clips": len(self.labels),
            "ids": self.ids,
        }
        columns = _little(self.predicted).tobytes() + _little(self.labels).tobytes()
        return self.MAGIC + json.dumps(header).encode() + b"\n" + zlib.compress(columns)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Predictions":
        """Parse a file; raise ValueError if it is damaged or something else."""
        if not data.startswith(cls.MAGIC):
            raise ValueError("not a file of predictions")
        line, _, packed = data[len(cls.MAGIC) :].partition(b"\n")
        try:
            header = json.loads(line)
            size = int(header["clips"])
            unpacking = zlib.decompressobj()
            columns = unpacking.decompress(
                packed, 4 * size + 1
            )  # at most one byte more than announced
            epoch, top1 = int(header["epoch"]), float(header["top1"])
            metric, ids = str(header["metric"]), str(header["ids"])
        except (zlib.error, KeyError, TypeError) as error:
            raise ValueError(f"damaged predictions: {error!r}") from error
        if len(columns) != 4 * size or not unpacking.eof:
            raise ValueError(f"{len(columns)} bytes for {counted(size, 'clip')}")
        halves = columns[: 2 * size], columns[2 * size :]
        predicted, labels = (_little(array.array("H", half)) for half in halves)
        return cls(epoch, metric, top1, ids, predicted, labels)


def _little(column: "array.array[int]") -> "array.array[int]":
    """Return a column in the byte order of the file (or, from the file, of this machine)."""
    if sys.byteorder == "little":
        return column
    swapped = array.array("H", column)
    swapped.byteswap()
    return swapped
