"""The run directory: every file name in which the control side and a job meet.

`runs/<sweep>/<variant>/<number>/`. Both sides use this module, so it keeps to Python 3.8
and the standard library. Files that the other side may read at any moment are replaced
whole (`write_json`) or grow by whole fsynced lines (`append_line`).
"""

import array
import dataclasses
import json
import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from pipeline.plan.measurement import Measurement, by_epoch

#: Environment variable that marks every process of a trial with its lease's token.
MARKER = "PCAN_TRIAL"
#: Environment variable that names the file in which the ranks of one machine meet.
MEETING = "PCAN_MEETING"


class RunDir:
    """Paths inside one trial's run directory, and how its small files are read."""

    def __init__(self, root: Union[str, Path]) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"RunDir({str(self.root)!r})"

    @property
    def spec(self) -> Path:
        """What is to be run; written by the control side before the job starts."""
        return self.root / "spec.json"

    @property
    def config(self) -> Path:
        """The fully resolved MMAction2 config of this trial."""
        return self.root / "config.py"

    @property
    def measurements(self) -> Path:
        """One JSON line an epoch; written by rank 0 of the job."""
        return self.root / "measurements.jsonl"

    @property
    def verdicts(self) -> Path:
        """One JSON line a judged epoch; written by the control side."""
        return self.root / "verdicts.jsonl"

    @property
    def progress(self) -> Path:
        """Where the job is inside an epoch; replaced about twice a second by rank 0."""
        return self.root / "progress.json"

    @property
    def facts(self) -> Path:
        """What only the job knows: numbers of clips, iterations, parameters; from rank 0."""
        return self.root / "facts.json"

    @property
    def judged(self) -> Path:
        """`{"epoch": n}`: the latest epoch the control side has judged."""
        return self.root / "judged.json"

    @property
    def stop(self) -> Path:
        """The control side's request to stop after the running epoch."""
        return self.root / "stop.json"

    @property
    def owner(self) -> Path:
        """`{"token", "host"}`: whose start of the job may write here; replaced by the next."""
        return self.root / "owner.json"

    def is_held_by(self, token: str) -> bool:
        """Tell whether this folder is still a launcher's, by the token of its lease.

        On a file system that hosts share this reaches a launcher that the database does not.
        """
        try:
            owner = read_json(self.owner)
        except OSError:  # the file system is away for a moment
            return True
        return owner is None or owner.get("token") == token

    @property
    def outcome(self) -> Path:
        """How the trial's job ended."""
        return self.root / "outcome.json"

    @property
    def overruled(self) -> Path:
        """The verdicts that a person has overruled: which, who, when."""
        return self.root / "overruled.json"

    @property
    def job_log(self) -> Path:
        """Output of the launcher (torchrun)."""
        return self.root / "job.log"

    def rank_log(self, rank: int) -> Path:
        """Output of one rank."""
        return self.root / f"rank{rank}.log"

    @property
    def logged_config(self) -> Path:
        """The configuration of an imported run, as far as its log tells it."""
        return self.root / "logged_config.json"

    @property
    def chosen(self) -> Path:
        """Who chose this trial for export by hand, and when."""
        return self.root / "chosen.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of `epoch_<n>.pth`."""
        return self.root / "checkpoints"

    @property
    def predictions(self) -> Path:
        """Folder of `epoch_<n>.bin`: the class that each validation clip was given."""
        return self.root / "predictions"

    def predictions_of(self, epoch: int) -> Path:
        """The predictions of one epoch; kept for the start, the best and the newest epochs."""
        return self.predictions / f"epoch_{epoch}.bin"

    @property
    def wandb(self) -> Path:
        """Folder that W&B writes below."""
        return self.root / "wandb"

    def read_measurements(self) -> List[Measurement]:
        """Return the measurements so far, ascending, each epoch once (the first value).

        A last line without its newline is still being written and is left out; so is a
        line that is no measurement (a torn write of an earlier, killed attempt).
        """
        return by_epoch(parse_measurements(read_lines(self.measurements)))


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
        told = {
            "epoch": self.epoch,
            "metric": self.metric,
            "top1": self.top1,
            "clips": len(self.labels),
            "ids": self.ids,
        }
        columns = _little(self.predicted).tobytes() + _little(self.labels).tobytes()
        return self.MAGIC + json.dumps(told).encode() + b"\n" + zlib.compress(columns)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Predictions":
        """Parse a file; raise ValueError if it is damaged or something else."""
        if not data.startswith(cls.MAGIC):
            raise ValueError("not a file of predictions")
        line, _, packed = data[len(cls.MAGIC) :].partition(b"\n")
        try:
            told = json.loads(line)
            size = int(told["clips"])
            unpacking = zlib.decompressobj()
            columns = unpacking.decompress(packed, 4 * size + 1)  # never more than it says
            epoch, top1 = int(told["epoch"]), float(told["top1"])
            metric, ids = str(told["metric"]), str(told["ids"])
        except (zlib.error, KeyError, TypeError) as error:
            raise ValueError(f"damaged predictions: {error!r}") from error
        if len(columns) != 4 * size or not unpacking.eof:
            raise ValueError(f"{len(columns)} bytes for {size} clips")
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


def parse_measurements(lines: List[str]) -> List[Measurement]:
    """Parse whole lines in order, leaving out those that are no measurement."""
    found = []
    for line in lines:
        try:
            found.append(Measurement.from_line(line))
        except (ValueError, TypeError):
            continue
    return found


def read_lines(path: Path) -> List[str]:
    """Return the whole lines of a file that may be missing or still growing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def read_json(path: Path) -> Optional[Dict[str, Any]]:
    """Return a JSON object, or None if the file is missing or does not hold one."""
    try:
        with open(path, "rb") as stream:  # `status` asks this of every trial
            record = json.loads(stream.read())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def write_json(path: Path, record: Dict[str, Any], durable: bool = True) -> None:
    """Replace `path` by `record` so that a reader sees the old or the new, never half.

    Args:
        durable: also flush to the disk before the rename (not needed for progress).
    """
    write_text(path, json.dumps(record, indent=1) + "\n", durable)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Replace `path` by `text` by a temporary file in the same folder."""
    write_bytes(path, text.encode("utf-8"), durable)


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace `path` by `data`; see `write_text`."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=str(path.parent))
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, str(path))
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if durable:
        fsync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Append one whole line and flush it to the disk.

    A torn last line, left by a writer that was killed, is ended first, so that it can
    never swallow the new line.
    """
    with open(str(path), "ab+") as stream:
        if stream.tell() > 0:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(line.rstrip("\n").encode("utf-8") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
