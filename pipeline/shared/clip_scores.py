"""The scores of each validation clip by branch: half precision, compressed, one file a reading.

Written by the job side, so this module keeps to Python 3.8 and the standard library. What class a
clip was given is in `predictions.py`.
"""

import array
import dataclasses
import json
import sys
import zlib
from typing import Dict, List, Mapping, Optional, Sequence

#: zlib's quick level: scores hardly compress better at the slow ones.
_LEVEL = 1


@dataclasses.dataclass(frozen=True)
class ClipScores:
    """The scores of all clips of one validation.

    Args:
        epoch: of the weights; 0 where the weights are of no single epoch.
        metric: the objective.
        top1: its value as the validation reported it; None where nothing was reported.
        ids: digest of the clips' names and labels in order, as in `Predictions`.
        classes: scores a clip and branch.
        labels: the true classes, in the order of the data set.
        names: of the clips, without folders.
        people: who is seen in each clip, "" where the annotation does not say.
        branches: by name ("rgb", "pose"; "score" for a model of one) the scores of all clips in a
            row, little-endian IEEE half precision: clips x classes x 2 bytes.
    """

    epoch: int
    metric: str
    top1: Optional[float]
    ids: str
    classes: int
    labels: Sequence[int]
    names: Sequence[str]
    people: Sequence[str]
    branches: Mapping[str, bytes]

    #: First bytes of a file: what it is, and the version of its form.
    MAGIC = b"pcan scores 1\n"

    def to_bytes(self) -> bytes:
        """Return the file: the magic line, a JSON line, then one compressed block."""
        texts = json.dumps([list(self.names), list(self.people)]).encode()
        labels = array.array("H", self.labels)
        if sys.byteorder != "little":
            labels.byteswap()
        header = {
            "epoch": self.epoch,
            "metric": self.metric,
            "top1": self.top1,
            "ids": self.ids,
            "clips": len(self.labels),
            "classes": self.classes,
            "branches": list(self.branches),
            "text_bytes": len(texts),
        }
        block = b"".join([labels.tobytes(), *self.branches.values(), texts])
        line = json.dumps(header).encode() + b"\n"
        return self.MAGIC + line + zlib.compress(block, _LEVEL)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ClipScores":
        """Parse a file; raise ValueError if it is damaged or something else."""
        if not data.startswith(cls.MAGIC):
            raise ValueError("not a file of scores")
        line, _, packed = data[len(cls.MAGIC) :].partition(b"\n")
        try:
            header = json.loads(line)
            clips, classes = int(header["clips"]), int(header["classes"])
            branches, text_bytes = [str(b) for b in header["branches"]], int(header["text_bytes"])
            size = 2 * clips + 2 * clips * classes * len(branches) + text_bytes
            unpacking = zlib.decompressobj()
            block = unpacking.decompress(packed, size + 1)  # at most a byte more than announced
            if len(block) != size or not unpacking.eof:
                raise ValueError(f"{len(block)} bytes where {size} were announced")
            names, people = json.loads(block[size - text_bytes :])
            top1 = header["top1"]
            return cls(
                epoch=int(header["epoch"]),
                metric=str(header["metric"]),
                top1=None if top1 is None else float(top1),
                ids=str(header["ids"]),
                classes=classes,
                labels=_labels(block[: 2 * clips]),
                names=_texts(names, clips),
                people=_texts(people, clips),
                branches=_split(block[2 * clips : size - text_bytes], branches),
            )
        except (zlib.error, KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"damaged scores: {error!r}") from error


def _labels(column: bytes) -> List[int]:
    labels = array.array("H", column)
    if sys.byteorder != "little":
        labels.byteswap()
    return labels.tolist()


def _texts(found: List[str], clips: int) -> List[str]:
    if len(found) != clips:
        raise ValueError(f"{len(found)} names where clips are {clips}")
    return [str(one) for one in found]


def _split(block: bytes, branches: List[str]) -> Dict[str, bytes]:
    size = len(block) // max(1, len(branches))
    return {name: block[i * size : (i + 1) * size] for i, name in enumerate(branches)}
