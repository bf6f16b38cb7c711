"""Which class each validation clip was given: collected while validating, kept in small files.

Two trials can then be compared on the same clips, clip by clip. Nothing here touches the
training: scores are read where the metric has just read them, and an epoch whose predictions do
not reproduce the objective exactly is left without a file, with the reason in `facts.json`.
"""

import array
import hashlib
import logging
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.hooks import Hook

from pipeline.shared.counted import counted
from pipeline.shared.files import read_json, write_bytes, write_json
from pipeline.shared.measurement import Measurement, best_of
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir
from pipeline.train.distributed import gather, rank

log = logging.getLogger(__name__)

_FUSED = re.compile(r"RGBPose_(\d+):(\d+)")
#: Classes are kept in two bytes.
MAX_CLASSES = 1 << 16
#: What a clip's data may call it, best first.
_NAMES = ("filename", "frame_dir", "video_id", "img_path")


class Unreadable(Exception):
    """The outputs of this model or the order of these clips cannot be kept."""


class ClipPredictionsHook(Hook):
    """Collects the predicted and the true class of each clip that this rank validates.

    Args:
        metric: the objective, such as "acc/RGBPose_1:1_top1"; says which scores count.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._stream = re.sub(r"_?top_?1$", "", metric.rsplit("/", 1)[-1])
        self._pairs: List[Tuple[int, int]] = []
        self._problem: Optional[str] = None
        self._ids: Optional[str] = None

    def before_val_epoch(self, _runner: Any) -> None:
        self._pairs, self._problem = [], None

    def after_val_iter(self, _runner: Any, outputs: Any = None, **_: Any) -> None:
        if self._problem is not None:
            return
        try:
            self._pairs += pairs(list(outputs or []), self._stream)
        except Unreadable as problem:
            self._problem = str(problem)
        except Exception as error:  # outputs of any kind; never at the training's cost
            self._problem = f"the model's outputs cannot be read ({error!r})"

    def result(self, runner: Any, top1: float) -> Tuple[Optional[Predictions], str]:
        """Return this epoch's predictions on rank 0, or why there are none. Call on all ranks."""
        parts = gather((self._pairs, self._problem))
        self._pairs = []
        if rank() != 0:
            return None, ""
        try:
            dataset = in_order(runner.val_dataloader)
            rows = whole([part for part, _ in parts], len(dataset), [t for _, t in parts])
            check(rows, top1)
            if self._ids is None:
                self._ids = clip_ids(dataset, [label for _, label in rows])
        except Unreadable as problem:
            return None, str(problem)
        predicted, labels = (array.array("H", column) for column in zip(*rows))
        found = Predictions(runner.epoch, self._metric, top1, self._ids, predicted, labels)
        return found, ""


def pairs(samples: List[Any], stream: str) -> List[Tuple[int, int]]:
    """Return (predicted, true) class of each sample of a batch; raise Unreadable."""
    if not samples:
        return []
    scores = np.stack([scores_of(sample, stream) for sample in samples])
    if scores.ndim != 2 or scores.shape[1] > MAX_CLASSES:
        raise Unreadable(f"scores of the form {scores.shape[1:]} are not one score a class")
    predicted = np.argsort(scores, axis=1)[:, -1]  # as MMAction2 breaks ties
    return [(int(p), label_of(sample)) for p, sample in zip(predicted, samples)]


def scores_of(sample: Any, stream: str) -> Any:
    """Return the scores that the objective is computed from: an array of one number a class."""
    found = _field(sample, "pred_score", "pred_scores")
    found = found.to_dict() if hasattr(found, "to_dict") else found
    if not isinstance(found, dict):
        return _array(found)
    if stream in found:
        return _array(found[stream])
    fused = _FUSED.fullmatch(stream)
    if fused and "rgb" in found and "pose" in found:
        weights = [float(weight) for weight in fused.groups()]
        parts = _array(found["rgb"]), _array(found["pose"])
        return sum(w * part.astype(np.float64) for w, part in zip(weights, parts))
    if "item" in found:
        return _array(found["item"])
    raise Unreadable(f'no scores of "{stream}" among {", ".join(map(str, found))}')


def label_of(sample: Any) -> int:
    """Return a sample's one true class."""
    found = _field(sample, "gt_label", "gt_labels")
    found = found.item if not torch.is_tensor(found) and hasattr(found, "item") else found
    values = np.atleast_1d(_array(found))
    if values.size != 1 or not 0 <= int(values.flat[0]) < MAX_CLASSES:
        raise Unreadable("a clip has more than one label")
    return int(values.flat[0])


def _field(sample: Any, *names: str) -> Any:
    for name in names:
        found = sample.get(name) if hasattr(sample, "get") else getattr(sample, name, None)
        if found is not None:
            return found
    raise Unreadable(f"a sample has no {names[0]}")


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if torch.is_tensor(value) else np.asarray(value)


def in_order(loader: Any) -> Any:
    """Return a loader's data set if each rank takes every n-th clip of it, in order."""
    sampler = loader.sampler
    kind = type(sampler).__name__
    if kind not in ("DefaultSampler", "SequentialSampler") or getattr(sampler, "shuffle", False):
        raise Unreadable(f"the validation clips are not read in order ({kind})")
    return loader.dataset


def whole(
    parts: List[List[Tuple[int, int]]], size: int, problems: List[Optional[str]]
) -> List[Tuple[int, int]]:
    """Return the ranks' parts in the order of the data set, without the sampler's padding."""
    problem = next((t for t in problems if t), None)
    if problem is not None:
        raise Unreadable(problem)
    world = len(parts)
    try:
        return [parts[i % world][i // world] for i in range(size)]
    except IndexError:
        seen = sum(map(len, parts))
        raise Unreadable(
            f"{counted(seen, 'clip was', 'clips were')} validated, the data set has {size}"
        ) from None


def check(rows: List[Tuple[int, int]], top1: float) -> None:
    """Raise Unreadable unless the predictions give the measured top-1, to the clip."""
    right = sum(predicted == label for predicted, label in rows)
    if not rows or abs(right - top1 * len(rows)) > 0.5:
        raise Unreadable(
            f"{right} of {len(rows)} predictions are right, which is not the measured {top1:.6g}"
        )


def clip_ids(dataset: Any, labels: List[int]) -> str:
    """Return a digest of the clips: names without folders, which differ between machines."""
    digest = hashlib.sha256(type(dataset).__name__.encode())
    for index, label in enumerate(labels):
        digest.update(f"\n{_name(dataset, index)} {label}".encode())
    return digest.hexdigest()[:32]


def _name(dataset: Any, index: int) -> str:
    info = dataset.get_data_info(index) if hasattr(dataset, "get_data_info") else {}
    found = next((info[key] for key in _NAMES if isinstance(info, dict) and info.get(key)), "")
    return str(found).replace("\\", "/").rsplit("/", 1)[-1]


def save(rundir: RunDir, found: Predictions) -> None:
    """Write the file of one epoch; a disk that refuses costs the file, not the training."""
    try:
        rundir.predictions.mkdir(exist_ok=True)
        write_bytes(rundir.predictions_of(found.epoch), found.to_bytes())
    except OSError as error:
        log.warning("The predictions of epoch %d are not kept: %s", found.epoch, error)


def record_absence(rundir: RunDir, reason: str) -> None:
    """Write into `facts.json` why there are no predictions, unless it is there."""
    facts: Dict[str, Any] = read_json(rundir.facts) or {}
    if facts.get("no_predictions") != reason:
        log.info("No predictions are kept: %s.", reason)
        write_json(rundir.facts, {**facts, "no_predictions": reason})


def epochs_of(rundir: RunDir) -> List[int]:
    """Return the epochs that have a file, ascending."""
    names = [f.stem for f in rundir.predictions.glob("epoch_*.bin")]
    return sorted(int(n[6:]) for n in names if n[6:].isdigit())


def prune(rundir: RunDir, history: Sequence[Measurement], keep: int = 2) -> None:
    """Delete all files but those of the start, of the newest `keep` and of the best epoch.

    Args:
        history: all measurements of the run.
    """
    epochs = epochs_of(rundir)
    best = best_of([m for m in history if m.epoch > 0])
    kept = {0, *epochs[-keep:]} | ({best.epoch} if best else set())
    for epoch in set(epochs) - kept:
        rundir.predictions_of(epoch).unlink()
    for leftover in rundir.predictions.glob(".epoch_*"):
        leftover.unlink()


def forget_after(rundir: RunDir, epoch: int) -> None:
    """Remove the files of epochs later than the one that is resumed from."""
    for later in epochs_of(rundir):
        if later > epoch:
            rundir.predictions_of(later).unlink()
