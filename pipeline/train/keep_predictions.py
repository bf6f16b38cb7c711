"""What validation made of each clip, its class and its scores: collected, kept in small files.

Two trials can then be compared on the same clips, clip by clip, and their scores be fused in
other ways without another pass over the data. Nothing here touches the
training: scores are read where the metric has just read them, and an epoch whose predictions do
not reproduce the objective exactly is left without a file, with the reason in `facts.json`.
"""

import array
import hashlib
import logging
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.hooks import Hook

from pipeline.shared.clip_scores import ClipScores
from pipeline.shared.counted import counted
from pipeline.shared.files import read_json, write_bytes, write_json
from pipeline.shared.measurement import Measurement, best_of
from pipeline.shared.predictions import COARSE, TRUE_COARSE, Predictions
from pipeline.shared.rundir import RunDir
from pipeline.train.distributed import gather, rank

log = logging.getLogger(__name__)

_FUSED = re.compile(r"RGBPose_(\d+):(\d+)")
#: Classes are kept in two bytes.
MAX_CLASSES = 1 << 16
#: What a clip's data may call it, best first.
_NAMES = ("filename", "frame_dir", "video_id", "img_path")
#: What it may call the person who is seen.
_PEOPLE = ("person", "subject", "performer", "person_id", "subject_id")
#: The branch of a model that gives one score a class.
SINGLE = "score"
#: The largest number of half precision; logits beyond it do not occur in a sound model.
_MOST = 65504.0


class Unreadable(Exception):
    """The outputs of this model or the order of these clips cannot be kept."""


class Clip(NamedTuple):
    """One validated clip.

    Args:
        branches: half-precision scores by branch, one a class.
        columns: see `further_columns`.
    """

    predicted: int
    label: int
    branches: Dict[str, Any]
    columns: Dict[str, int]


class KeptValidation(NamedTuple):
    """What is kept of one validation; without scores where some are not finite."""

    predictions: Predictions
    scores: Optional[ClipScores]


class ClipPredictionsHook(Hook):
    """Collects class and scores of each clip that this rank validates.

    Args:
        metric: the objective, such as "acc/RGBPose_1:1_top1"; says which scores count.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._stream = stream_of(metric)
        self._clips: List[Clip] = []
        self._problem: Optional[str] = None
        self._ids: Optional[str] = None

    def before_val_epoch(self, _runner: Any) -> None:
        self._clips, self._problem = [], None

    def after_val_iter(self, _runner: Any, outputs: Any = None, **_: Any) -> None:
        if self._problem is not None:
            return
        try:
            self._clips += read_clips(list(outputs or []), self._stream)
        except Unreadable as problem:
            self._problem = str(problem)
        except Exception as error:  # outputs of any kind; never at the training's cost
            self._problem = f"the model's outputs cannot be read ({error!r})"

    def result(self, runner: Any, top1: float) -> Tuple[Optional[KeptValidation], str]:
        """Return what this epoch's clips were taken for, on rank 0, or why it is not known.

        Call it on all ranks.
        """
        parts = gather((self._clips, self._problem))
        self._clips = []
        if rank() != 0:
            return None, ""
        try:
            dataset = in_order(runner.val_dataloader)
            clips = whole([part for part, _ in parts], len(dataset), [t for _, t in parts])
            check(clips, top1)
            if self._ids is None:
                self._ids = clip_ids(dataset, [clip.label for clip in clips])
        except Unreadable as problem:
            return None, str(problem)
        predicted = array.array("H", [clip.predicted for clip in clips])
        labels = array.array("H", [clip.label for clip in clips])
        made = Predictions(
            *(runner.epoch, self._metric, top1, self._ids, predicted, labels),
            classes=len(next(iter(clips[0].branches.values()))),
            columns=as_columns([clip.columns for clip in clips]),
        )
        scores = clip_scores(runner.epoch, self._metric, top1, self._ids, dataset, clips)
        return KeptValidation(made, scores), ""


def clip_scores(
    epoch: int, metric: str, top1: float, ids: str, dataset: Any, clips: List[Clip]
) -> Optional[ClipScores]:
    """Return the scores of all clips of a data set; None where they have no common form."""
    branches = packed(clips)
    if branches is None:
        return None
    return ClipScores(
        epoch=epoch,
        metric=metric,
        top1=top1,
        ids=ids,
        classes=len(next(iter(clips[0].branches.values()))),
        labels=[clip.label for clip in clips],
        names=[_name(dataset, i) for i in range(len(clips))],
        people=[_person(dataset, i) for i in range(len(clips))],
        branches=branches,
    )


def stream_of(metric: str) -> str:
    """Return whose scores a metric is computed from: "RGBPose_1:1" of "acc/RGBPose_1:1_top1"."""
    return re.sub(r"_?top_?1$", "", metric.rsplit("/", 1)[-1])


def read_clips(samples: List[Any], stream: str) -> List[Clip]:
    """Return class and scores of each sample of a batch; raise Unreadable."""
    if not samples:
        return []
    scores = np.stack([scores_of(sample, stream) for sample in samples])
    if scores.ndim != 2 or scores.shape[1] > MAX_CLASSES:
        raise Unreadable(f"scores of the form {scores.shape[1:]} are not one score a class")
    predicted = np.argsort(scores, axis=1)[:, -1]  # as MMAction2 breaks ties
    return [
        Clip(int(guess), label_of(sample), branches_of(sample), _further_columns(sample))
        for guess, sample in zip(predicted, samples)
    ]


def branches_of(sample: Any) -> Dict[str, Any]:
    """Return a sample's scores by branch in half precision, one a class."""
    found = _field(sample, "pred_score", "pred_scores")
    found = found.to_dict() if hasattr(found, "to_dict") else found
    if not isinstance(found, dict):
        found = {SINGLE: found}
    elif set(found) == {"item"}:
        found = {SINGLE: found["item"]}
    arrays = {str(name): _array(score) for name, score in found.items()}
    return {name: np.clip(a, -_MOST, _MOST).astype(np.float16) for name, a in arrays.items()}


def packed(clips: Sequence[Clip]) -> Optional[Dict[str, bytes]]:
    """Return the scores of all clips by branch as bytes; None if they have no common form."""
    forms = {(name, score.shape) for clip in clips for name, score in clip.branches.items()}
    names = list(clips[0].branches)
    if len(forms) != len(names) or len({shape for _, shape in forms}) != 1:
        return None
    tables = {name: np.stack([clip.branches[name] for clip in clips]) for name in names}
    if any(table.ndim != 2 or not np.isfinite(table).all() for table in tables.values()):
        return None
    return {name: table.astype("<f2").tobytes() for name, table in tables.items()}


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


def further_columns(sample: Any) -> Dict[str, int]:
    """Return the class that each branch gave a sample, and its coarse classes, by column name."""
    found = _field(sample, "pred_score", "pred_scores")
    found = found.to_dict() if hasattr(found, "to_dict") else found
    columns = _classes_of(found, "") if isinstance(found, dict) and "item" not in found else {}
    coarse = sample.get("pred_coarse_score") if hasattr(sample, "get") else None
    if isinstance(coarse, dict) and "gt_coarse_label" in sample:
        columns.update(_classes_of(coarse, COARSE))
        columns[TRUE_COARSE] = int(sample.get("gt_coarse_label"))
    return columns


def _further_columns(sample: Any) -> Dict[str, int]:
    """Return `further_columns`; what cannot be read costs these columns, not the predictions."""
    try:
        return further_columns(sample)
    except Exception:
        return {}


def _classes_of(scores: Dict[str, Any], ending: str) -> Dict[str, int]:
    given = {f"{name}{ending}": _array(score) for name, score in scores.items()}
    return {name: int(np.argsort(score)[-1]) for name, score in given.items() if score.ndim == 1}


def as_columns(rows: List[Dict[str, int]]) -> Dict[str, "array.array[int]"]:
    """Return the columns that every clip has."""
    names = [name for name in rows[0] if all(name in row for row in rows)] if rows else []
    return {name: array.array("H", (row[name] for row in rows)) for name in names}


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


def whole(parts: List[List[Any]], size: int, problems: List[Optional[str]]) -> List[Any]:
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


def check(clips: Sequence[Clip], top1: float) -> None:
    """Raise Unreadable unless the predictions give the measured top-1, to the clip."""
    right = sum(clip.predicted == clip.label for clip in clips)
    if not clips or abs(right - top1 * len(clips)) > 0.5:
        raise Unreadable(
            f"{right} of {len(clips)} predictions are right, which is not the measured {top1:.6g}"
        )


def clip_ids(dataset: Any, labels: List[int]) -> str:
    """Return a digest of the clips: names without folders, which differ between machines."""
    digest = hashlib.sha256(type(dataset).__name__.encode())
    for index, label in enumerate(labels):
        digest.update(f"\n{_name(dataset, index)} {label}".encode())
    return digest.hexdigest()[:32]


def _name(dataset: Any, index: int) -> str:
    return _info(dataset, index, _NAMES).replace("\\", "/").rsplit("/", 1)[-1]


def _person(dataset: Any, index: int) -> str:
    return _info(dataset, index, _PEOPLE)


def _info(dataset: Any, index: int, keys: Sequence[str]) -> str:
    """Return the first of these that the annotation of a clip has, "" without one."""
    info = dataset.get_data_info(index) if hasattr(dataset, "get_data_info") else {}
    known = info if isinstance(info, dict) else {}
    return str(next((known[key] for key in keys if known.get(key) not in (None, "")), ""))


def save(rundir: RunDir, found: KeptValidation) -> None:
    """Write the files of one epoch; a disk that refuses costs the files, not the training."""
    epoch = found.predictions.epoch
    try:
        rundir.predictions.mkdir(exist_ok=True)
        write_bytes(rundir.predictions_of(epoch), found.predictions.to_bytes())
        if found.scores is not None:
            write_bytes(rundir.scores_of(epoch), found.scores.to_bytes())
    except OSError as error:
        log.warning("The predictions of epoch %d are not kept: %s", epoch, error)


def record_absence(rundir: RunDir, reason: str) -> None:
    """Write into `facts.json` why there are no predictions, unless it is there."""
    facts: Dict[str, Any] = read_json(rundir.facts) or {}
    if facts.get("no_predictions") != reason:
        log.info("No predictions are kept: %s.", reason)
        write_json(rundir.facts, {**facts, "no_predictions": reason})


def epochs_of(rundir: RunDir, kind: str = "epoch") -> List[int]:
    """Return the epochs that have a file, ascending; of scores with the kind "scores"."""
    names = [f.stem for f in rundir.predictions.glob(f"{kind}_*.bin")]
    numbers = [name[len(kind) + 1 :] for name in names]
    return sorted(int(number) for number in numbers if number.isdigit())


def prune(rundir: RunDir, history: Sequence[Measurement], keep: int = 2) -> None:
    """Delete all files but those of the start, of the newest `keep` and of the best epoch.

    Scores are a hundred times larger: those of the best and of the newest epoch stay.

    Args:
        history: all measurements of the run.
    """
    epochs, scored = epochs_of(rundir), epochs_of(rundir, "scores")
    best = best_of([m for m in history if m.epoch > 0])
    top = {best.epoch} if best else set()
    for epoch in set(epochs) - {0, *epochs[-keep:]} - top:
        rundir.predictions_of(epoch).unlink()
    for epoch in set(scored) - {*scored[-1:]} - top:
        rundir.scores_of(epoch).unlink()
    for leftover in rundir.predictions.glob(".*_*.bin.*"):
        leftover.unlink()


def forget_after(rundir: RunDir, epoch: int) -> None:
    """Remove the files of epochs later than the one that is resumed from."""
    for kind, path_of in (("epoch", rundir.predictions_of), ("scores", rundir.scores_of)):
        for later in epochs_of(rundir, kind):
            if later > epoch:
                path_of(later).unlink()
