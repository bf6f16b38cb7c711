"""Make the packs of one clip from its video: decode once, cut, encode, write.

Runs in the worker processes of `prepare`; knows nothing of configs or progress.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.annotation import joints_of
from pipeline.data.crop_region import Box, Compact, Joints, segments, superset, validation_frames
from pipeline.data.encode import LOSSLESS, encoder
from pipeline.data.video import Picture, VideoError, frame_count, numbered
from pipeline.shared.pack import source_fingerprint, write_pack
from pipeline.shared.store import MAKER


@dataclasses.dataclass(frozen=True)
class PackRecipe:
    """What decides a pack's content besides its source: the chain it is for and the codec."""

    codec: str
    clip_len: dict[str, int]
    compact: Compact
    fixed: bool  # only the frames that validation shows

    def meta(self) -> dict[str, Any]:
        """Return the recipe's entries in a pack's head."""
        return {
            "maker": MAKER,
            "codec": self.codec,
            "clip_len": self.clip_len,
            "compact": list(dataclasses.astuple(self.compact)),
            "fixed": self.fixed,
        }

    def frames(self, total: int) -> npt.NDArray[np.int64]:
        """Return the frames to store, ascending."""
        if self.fixed:
            return np.unique(validation_frames(total, self.clip_len["RGB"]))
        return np.arange(total)

    def box(self, joints: Joints, size: tuple[int, int]) -> Box:
        """Return the region to store."""
        total, pose = joints.shape[1], self.clip_len["Pose"]
        if self.fixed:
            shown = validation_frames(total, pose)
            drawn = np.stack([shown, shown], axis=1)
        else:
            drawn = segments(total, pose)
        box = superset(joints, size, drawn, self.compact)
        return even(box, size) if self.codec == LOSSLESS else box


def even(box: Box, size: tuple[int, int]) -> Box:
    """Return a box widened to even pixels, where a video's colours begin and end."""
    left, top, right, bottom = box
    right, bottom = min(right + right % 2, size[1]), min(bottom + bottom % 2, size[0])
    return left - left % 2, top - top % 2, right, bottom


@dataclasses.dataclass(frozen=True)
class Task:
    """One clip to prepare: its annotation, its video, and the packs to write."""

    name: str
    clip: dict[str, Any]
    video: Path
    packs: dict[Path, PackRecipe]


def head_of(task: Task, recipe: PackRecipe) -> dict[str, Any]:
    """Return what is known of a pack's head before its video is decoded."""
    source = {
        "source": source_fingerprint(task.clip),
        "video_bytes": os.stat(task.video).st_size,
        "clip": task.name,
    }
    # JSON has no tuples; a head that was read compares equal to this.
    meta = recipe.meta()
    return {
        **source,
        **meta,
        "compact": [list(v) if isinstance(v, tuple) else v for v in meta["compact"]],
    }


def make(task: Task) -> int:
    """Write a clip's packs.

    Returns:
        Bytes written.

    Raises:
        VideoError: the video is missing, damaged, or shorter than its annotation.
    """
    if not task.video.is_file():
        raise VideoError(f"{task.video} is missing")
    total = int(task.clip["total_frames"])
    jobs = {path: _Job(task, recipe, total) for path, recipe in task.packs.items()}
    # The first frame has the size.
    numbers = {0}.union(*(job.numbers.tolist() for job in jobs.values()))
    last, number = max(numbers), -1
    for number, picture in numbered(task.video, numbers):
        for job in jobs.values():
            job.take(number, picture)
        if number == last:
            break
    if number < last:
        raise VideoError(
            f"{task.video} has {frame_count(task.video)} frames, its annotation {total}"
        )
    return sum(write_pack(path, job.head(), job.stills) for path, job in jobs.items())


class _Job:
    """One pack in the making."""

    def __init__(self, task: Task, recipe: PackRecipe, total: int) -> None:
        self.task, self.recipe = task, recipe
        self.numbers = recipe.frames(total)
        self.stills: list[tuple[int, bytes]] = []
        self.size, self.box = (0, 0), (0, 0, 0, 0)
        self._encode = encoder(recipe.codec)
        self._remaining = set(self.numbers.tolist())

    def take(self, number: int, picture: Picture) -> None:
        """Keep the region of a frame if the pack has it."""
        if number == 0:
            self.size = picture.shape[0], picture.shape[1]
            self.box = self.recipe.box(scaled_joints(self.task.clip, self.size), self.size)
        if number in self._remaining:
            left, top, right, bottom = self.box
            self.stills.append((number, self._encode(picture[top:bottom, left:right])))

    def head(self) -> dict[str, Any]:
        return {**head_of(self.task, self.recipe), "size": list(self.size), "box": list(self.box)}


def scaled_joints(clip: dict[str, Any], size: tuple[int, int]) -> Joints:
    """Return a clip's joints in pixels of its video, as MMDecode scales them (in float32)."""
    joints = joints_of(clip)
    height, width = clip["img_shape"]
    joints[..., 0] *= size[1] / width
    joints[..., 1] *= size[0] / height
    return joints


def quiet_worker() -> None:
    """Keep a worker process to one core; the parallel part is the clips."""
    import cv2

    cv2.setNumThreads(1)
