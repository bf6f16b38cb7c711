"""Scores of readings: taken from the disk, or made by the workers and kept there.

`refine/` of a run directory has a file a reading, named by all that it depends on. The plain
reading of a trial's best epoch is where its validation keeps it.
"""

import concurrent.futures
import hashlib
import json
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.refine.recipes import ClipReading, Weights
from pipeline.refine.score_worker import ScoreWorker, Unavailable
from pipeline.report.stats.kept_scores import BranchScores, unpack
from pipeline.shared.rundir import RunDir

#: Called with readings done and all that are planned so far, in thousandths.
Progress = Callable[[int, int], None]
_FINE = 1000


class Evaluations:
    """Reads, makes and keeps scores.

    Args:
        folder: the run directory of the trial that is refined.
        start: makes a worker; called when the first reading is lacking, once a slot.
        slots: how many workers there may be.
    """

    def __init__(
        self,
        folder: Path,
        start: Callable[[int], ScoreWorker],
        slots: int,
        progress: Progress,
        split: str = "val",
    ) -> None:
        self._folder, self._split = folder, split
        self._start, self._slots = start, slots
        self._progress = progress
        self._known: dict[ClipReading, BranchScores] = {}
        self._refused: dict[ClipReading, str] = {}
        self._idle: queue.Queue[ScoreWorker] = queue.Queue()
        self._workers: list[ScoreWorker] = []
        self._lock = threading.Lock()
        self._shares: dict[ClipReading, float] = {}
        #: Readings that were made by this call, the others were there.
        self.made = 0

    def scores(self, reading: ClipReading) -> BranchScores:
        """Return the scores of a reading.

        Raises:
            Unavailable: they cannot be made.
            NotReady: the worker's process has ended.
        """
        if reading in self._refused:
            raise Unavailable(self._refused[reading])
        if reading not in self._known:
            found = self._stored(reading)
            self._known[reading] = found if found is not None else self._make(reading)
        return self._known[reading]

    def prepare(self, readings: Sequence[ClipReading]) -> dict[ClipReading, str]:
        """Make the readings that are lacking, on all slots; return why some cannot be made."""
        lacking = [one for one in readings if self._stored(one) is None]
        self._shares.update(dict.fromkeys(lacking, 0.0))
        refused = {}
        with concurrent.futures.ThreadPoolExecutor(max(1, self._slots)) as pool:
            jobs = {one: pool.submit(self.scores, one) for one in lacking}
            for one, job in jobs.items():
                try:
                    job.result()
                except Unavailable as error:
                    refused[one] = self._refused[one] = str(error)
        return refused

    def facts(self, folder: Path, epoch: int, views: dict[str, Any]) -> dict[str, Any]:
        """Return what `pipeline.train.refine_facts` finds in a run directory."""
        worker = self._worker()
        try:
            answer = worker.ask({"facts": str(folder), "epoch": epoch, "views": views})
        finally:
            self._idle.put(worker)
        return dict(answer["facts"])

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.close()

    def _file(self, reading: ClipReading) -> Path:
        (first, *_) = reading.weights
        if reading.plain and self._split == "val":
            return RunDir(first.folder).scores_of(first.epoch)
        key = [_named(reading.weights), reading.clips, reading.flip, self._split]
        return RunDir(self._folder).refine / f"scores-{_digest(key)}.bin"

    def _stored(self, reading: ClipReading) -> BranchScores | None:
        if reading in self._known:
            return self._known[reading]
        file = self._file(reading)
        try:
            found = unpack(file.read_bytes())
        except (OSError, ValueError):
            return None
        # Left over where a worker was killed between keeping the scores and removing their part.
        RunDir.part_of(file).unlink(missing_ok=True)
        return found

    def _make(self, reading: ClipReading) -> BranchScores:
        (first, *_) = reading.weights
        file = self._file(reading)
        file.parent.mkdir(exist_ok=True)
        question = {
            "score": str(first.folder if reading.plain else self._folder),
            "weights": [
                {"checkpoint": str(checkpoint(one)), "later": one.later} for one in reading.weights
            ],
            "mean": str(mean_path(self._folder, reading.weights)),
            "epoch": first.epoch if reading.plain else 0,
            "split": self._split,
            "clips": reading.clips,
            "flip": reading.flip,
            "out": str(file),
        }
        worker = self._worker()
        try:
            worker.ask(question, lambda done, of: self._tell(reading, done / of))
        finally:
            self._idle.put(worker)
        self.made += 1
        self._tell(reading, 1.0)
        return unpack(file.read_bytes())

    def _tell(self, reading: ClipReading, share: float) -> None:
        self._shares[reading] = share
        self._progress(int(sum(self._shares.values()) * _FINE), len(self._shares) * _FINE)

    def _worker(self) -> ScoreWorker:
        """Return an idle worker, a new one while there are fewer than slots."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            pass
        with self._lock:
            if len(self._workers) < self._slots:
                self._workers.append(self._start(len(self._workers)))
                return self._workers[-1]
        return self._idle.get()


def mean_path(folder: Path, weights: Sequence[Weights]) -> Path:
    """Return where the mean of several weights is kept, in the run directory of a trial."""
    return RunDir(folder).refine / f"mean-{_digest(_named(weights))}.pth"


def checkpoint(weights: Weights) -> Path:
    """Return the checkpoint file of some weights."""
    return RunDir(weights.folder).checkpoints / f"epoch_{weights.epoch}.pth"


def _named(weights: Sequence[Weights]) -> list[Any]:
    """Return what identifies weights, also from those of a trial of the same name."""
    found = []
    for one in weights:
        try:
            about = checkpoint(one).stat()
            stamp = [about.st_size, about.st_mtime_ns]
        except OSError:
            stamp = []
        found.append([one.trial, one.epoch, one.later, *stamp])
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]
