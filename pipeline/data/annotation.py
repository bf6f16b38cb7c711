"""Read pose annotations without running what a pickle may contain (`plain_pickle`)."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, NotReady
from pipeline.shared.safe_pickle import PlainUnpickler, UnsafePickle


@dataclasses.dataclass(frozen=True)
class Annotation:
    """A pose annotation file: its clips and which clips a split has.

    Args:
        path: where it was read from.
        clips: one dict a clip, as MMAction2's PoseDataset takes them.
        splits: clip names by split.
    """

    path: Path
    clips: list[dict[str, Any]]
    splits: dict[str, list[str]]

    def split(self, name: str | None) -> list[dict[str, Any]]:
        """Return the clips of a split in the file's order; None means all.

        Raises:
            InputError: the file has no such split.
        """
        if name is None:
            return self.clips
        if name not in self.splits:
            have = ", ".join(self.splits) or "none"
            raise InputError(f'{self.path} has no split "{name}". It has: {have}.')
        names = set(self.splits[name])
        return [clip for clip in self.clips if clip_name(clip) in names]


def why_empty(annotation: Annotation, split: str | None) -> str:
    """Return why a split has no clips: none is listed, or the listed names are none of a clip."""
    listed = annotation.splits.get(split or "", [])
    if not listed or not annotation.clips:
        return "no clip is listed in it"
    called = clip_name(annotation.clips[0])
    return f'it lists names such as "{listed[0]}", and clips are called such as "{called}"'


def clip_name(clip: dict[str, Any]) -> str:
    """Return what a clip is called in the splits, as PoseDataset finds it."""
    return str(clip["filename"] if "filename" in clip else clip["frame_dir"])


def load_pickle(path: Path) -> Any:
    """Load a pickle of plain data and numpy arrays, and nothing that runs code.

    Raises:
        NotReady: the file is missing or cannot be read.
        InputError: the file is damaged, or holds more than plain data and arrays.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(64)
            if head.startswith(b"version https://git-lfs"):
                raise InputError(f"{path} is a Git LFS pointer, not the data. Run: git lfs pull")
            stream.seek(0)
            return PlainUnpickler(stream).load()
    except OSError as error:
        raise NotReady(f"The annotation {path} cannot be read: {error.strerror}.") from error
    except UnsafePickle as error:
        raise InputError(
            f"{path} is refused: {error}, which no annotation needs and which could run code. "
            "Use a file from its publisher, or write it again from plain arrays."
        ) from error
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} is damaged or no pickle ({error}). Get it again.") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        kind = type(error).__name__
        raise InputError(
            f"{path} is damaged or no pickle ({kind}: {error}). Get it again."
        ) from error


def load_annotation(path: Path) -> Annotation:
    """Read an annotation file with or without splits.

    Raises:
        NotReady: the file is missing or cannot be read.
        InputError: it is damaged, unsafe, or of another form.
    """
    content = load_pickle(path)
    splits: Any = {}
    if isinstance(content, dict) and "annotations" in content:
        content, splits = content["annotations"], content.get("split") or {}
    is_list = isinstance(content, list) and content and isinstance(splits, dict)
    if not is_list or not all(isinstance(clip, dict) for clip in content):
        raise InputError(
            f"{path} is not a pose annotation: it should hold a list of clips, or a dict with "
            '"split" and "annotations", as PoseDataset reads them.'
        )
    for number, clip in enumerate(content):
        if "frame_dir" not in clip and "filename" not in clip:
            raise InputError(f'{path}: clip {number} has neither "frame_dir" nor "filename".')
    for split, names in splits.items():
        if not isinstance(names, list | tuple | set | np.ndarray):
            kind = type(names).__name__
            raise InputError(
                f'{path}: its split "{split}" is of the type {kind}, wanted is a list of names.'
            )
    return Annotation(path, content, {str(k): [str(n) for n in v] for k, v in splits.items()})


def joints_of(clip: dict[str, Any]) -> npt.NDArray[np.float32]:
    """Return a clip's joints (M, T, V, 2), NaN as missing, in pixels of the annotation."""
    joints = np.asarray(clip["keypoint"])[..., :2].astype(np.float32)
    return np.nan_to_num(joints, nan=0.0)


def joint_form_problem(clip: dict[str, Any]) -> str | None:
    """Return how a clip's joints have another form than a chain for pictures takes, or None."""
    for name, wanted in (
        ("keypoint", "(people, frames, joints, 2)"),
        ("keypoint_score", "(people, frames, joints)"),
    ):
        value = clip.get(name)
        if value is None:
            continue
        if not isinstance(value, np.ndarray):
            kind = type(value).__name__
            return f"{clip_name(clip)}: {name} is a {kind}, wanted is an array of {wanted}"
        if value.dtype.kind not in "fiu":
            return f"{clip_name(clip)}: {name} is an array of {value.dtype}, wanted are numbers"
        shape = value.shape
        if len(shape) != wanted.count(",") + 1 or (name == "keypoint" and shape[-1] != 2):
            return f"{clip_name(clip)}: {name} is an array of {shape}, wanted is {wanted}"
    return None
