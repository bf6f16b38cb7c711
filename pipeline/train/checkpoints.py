"""Checkpoint files: written whole or not at all, deleted last, read without running code.

Plain tensors, numbers, texts, lists and dicts only, so `torch.load(weights_only=True)` of a new
torch opens them with no class allowed by hand; they are read here by `safe_archive`, since an old
torch refuses a Counter (a MultiStepLR has one). What goes in and comes out: `training_state.py`.
"""

import os
import re
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch

from pipeline.shared.files import FormatError, check_schema, replacing
from pipeline.shared.measurement import Measurement, best_of
from pipeline.shared.rundir import RunDir
from pipeline.shared.safe_pickle import UnsafePickle
from pipeline.shared.states import Cause
from pipeline.train.outcome import JobFailure
from pipeline.train.safe_archive import DamagedArchive, ForeignArchive, load

SCHEMA = 1
_NAME = re.compile(r"epoch_(\d+)\.pth")
#: What every checkpoint of ours holds.
KEYS = ("schema", "meta", "state_dict", "optimizer", "param_schedulers", "ranks", "measurement")


def path_of(rundir: RunDir, epoch: int) -> Path:
    """Return where the checkpoint of `epoch` lies."""
    return rundir.checkpoints / f"epoch_{epoch}.pth"


def write(path: Path, content: Dict[str, Any]) -> None:
    """Write a checkpoint so that `path` is the old file or the whole new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        torch.save(content, stream)


def read(path: Path) -> Dict[str, Any]:
    """Read a checkpoint of ours; raise JobFailure if it is missing, damaged or foreign."""
    if not path.is_file():
        raise JobFailure(
            Cause.BAD_CHECKPOINT, f"The checkpoint to resume from is missing: {path}."
        )
    size = path.stat().st_size
    try:
        content = load(path)
    except OSError as error:  # of the disk or of permissions: the file itself may be sound
        raise JobFailure(
            Cause.CHECKPOINT_REFUSED, f"{path} cannot be read: {error.strerror or error}."
        ) from error
    except (UnsafePickle, ForeignArchive, DamagedArchive) as error:
        raise JobFailure(
            Cause.BAD_CHECKPOINT, f"{path} ({size} bytes) cannot be opened: {error}"
        ) from error
    if isinstance(content, dict):
        try:
            check_schema(content, SCHEMA, path)
        except FormatError as error:
            raise JobFailure(Cause.CHECKPOINT_REFUSED, str(error)) from error
    missing = [key for key in KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise JobFailure(
            Cause.BAD_CHECKPOINT,
            f"{path} is not a trial checkpoint: it has no {', '.join(missing)}.",
        )
    return content


def epochs_of(rundir: RunDir) -> List[int]:
    """Return the epochs that have a checkpoint, ascending."""
    names = os.listdir(str(rundir.checkpoints)) if rundir.checkpoints.is_dir() else []
    return sorted(int(m.group(1)) for m in map(_NAME.fullmatch, names) if m)


def prune(rundir: RunDir, history: Sequence[Measurement], keep: int = 2) -> None:
    """Delete all checkpoints but the newest `keep` and the one with the best top-1.

    Args:
        history: all measurements of the run.
    """
    epochs = epochs_of(rundir)
    there = set(epochs)
    best = best_of([m for m in history if m.epoch in there])
    kept = set(epochs[-keep:]) | ({best.epoch} if best else set())
    for epoch in epochs:
        if epoch not in kept:
            path_of(rundir, epoch).unlink()


def forget_unfinished(rundir: RunDir) -> None:
    """Make the folder, and remove what a killed writer left half-written in it."""
    rundir.checkpoints.mkdir(parents=True, exist_ok=True)
    for leftover in rundir.checkpoints.glob(".epoch_*.pth.*"):
        leftover.unlink()


def forget_after(rundir: RunDir, epoch: int) -> None:
    """Remove checkpoints later than the one that is resumed from."""
    for later in epochs_of(rundir):
        if later > epoch:
            path_of(rundir, later).unlink()


def plain(value: Any, where: str = "checkpoint", lost: Optional[List[str]] = None) -> Any:
    """Copy `value` with nothing in it that loading would have to run code for.

    Arrays become tensors and NumPy's numbers Python's. Entries of a dict that have no plain
    form (functions, modules) are left out, their places added to `lost`: the objects that
    restore themselves from it keep what they were built with.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return value.item()
    for kind in (int, float, str):  # also an enumeration's members become plain
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return _plain_dict(value, where, lost)
    if isinstance(value, (list, tuple)):
        items = [plain(item, f"{where}[{i}]", lost) for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise TypeError(f"{where} is a {type(value).__name__}, which has no plain form")


def _plain_dict(value: Dict[Any, Any], where: str, lost: Optional[List[str]]) -> Dict[Any, Any]:
    kind = next((k for k in (OrderedDict, Counter) if isinstance(value, k)), dict)
    copy: Any = kind()
    for key, item in value.items():
        try:
            copy[key] = plain(item, f"{where}.{key}", lost)
        except TypeError:
            if lost is not None:
                lost.append(f"{where}.{key}")
    if hasattr(value, "_metadata"):
        copy._metadata = {name: dict(entry) for name, entry in value._metadata.items()}
    return copy
