"""`MMDecode` that reads prepared packs, with everything after it left as it is.

A pack holds only the region where the person is. The stock transforms are given windows instead
of pictures: they have the full picture's shape, and `MMCompact` may cut (and pad) them like the
picture itself. So boxes, joints and random draws are the stock code's own.
"""

import logging
import multiprocessing
import os
from typing import Any, Collection, Dict, List, Sequence

import numpy as np
from mmaction.datasets.transforms import MMDecode
from mmaction.registry import TRANSFORMS

from pipeline.shared.pack import SUFFIX, Pack, PackError, source_fingerprint
from pipeline.shared.stills import decode

log = logging.getLogger(__name__)


class Fallbacks:
    """A counter that all loader processes share; the first fallback is warned about once."""

    def __init__(self) -> None:
        self._count = multiprocessing.Value("L", 0)

    def __deepcopy__(self, memo: Any) -> "Fallbacks":
        return self  # pipelines are copied with their data sets; the count stays one

    @property
    def total(self) -> int:
        """How many samples so far."""
        return int(self._count.value)

    def count(self, reason: str) -> None:
        """Count one sample; log the reason of the first."""
        with self._count.get_lock():
            self._count.value += 1
            first = self._count.value == 1
        if first:
            log.warning(
                "Reading a clip from its video instead of its pack: %s. Others are counted only; "
                "to repair the packs: pcan data prepare SWEEP --verify 1",
                reason,
            )


@TRANSFORMS.register_module()
class PackDecode(MMDecode):
    """Read a clip's pictures from its pack, or from the video where there is no usable pack.

    Args:
        packs: the folder of `<clip>.pack`.
        videos: the folder the videos' paths begin with; what follows it names the clip.
        pose_frames: clip length of the joints that the stored regions were proven for.
    """

    def __init__(self, packs: str, videos: str, pose_frames: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.packs = packs
        self.videos = videos
        self.pose_frames = pose_frames
        self.fallbacks = Fallbacks()
        self._clip: Dict[str, Any] = {}

    def transform(self, results: Dict) -> Dict:
        """Decode pictures and joints; as MMDecode, but where the pictures come from."""
        self._clip = results
        try:
            return super().transform(results)
        finally:
            self._clip = {}

    def _get_video_reader(self, filename: str) -> Any:
        try:
            return self._open_pack(filename)
        except FileNotFoundError:
            self.fallbacks.count(f"there is no pack of {filename}")
        except PackError as error:
            self.fallbacks.count(str(error))
        return super()._get_video_reader(filename)

    def _decord_load_frames(self, container: Any, frame_inds: np.ndarray) -> List:
        if not isinstance(container, Pack):
            return super()._decord_load_frames(container, frame_inds)
        try:
            with container as pack:
                return windows(pack, frame_inds)
        except PackError as error:
            self.fallbacks.count(str(error))
            reader = super()._get_video_reader(self._clip["filename"])
            return super()._decord_load_frames(reader, frame_inds)

    def _open_pack(self, filename: str) -> Pack:
        clip = self._clip
        if clip["clip_len"].get("Pose") != self.pose_frames:
            raise PackError(f"the packs are proven for {self.pose_frames} joints' frames only")
        name = os.path.splitext(os.path.relpath(filename, self.videos))[0]
        pack = Pack(os.path.join(self.packs, name + SUFFIX))
        try:
            check_source(pack, clip, filename)
        except BaseException:
            pack.close()
            raise
        return pack


def check_source(pack: Pack, clip: Dict[str, Any], filename: str) -> None:
    """Raise PackError if a pack was made from other joints or another video."""
    if pack.meta["source"] != source_fingerprint(clip):
        raise PackError(f"{pack.path} is stale: the annotation has changed since.")
    path = filename if os.path.splitext(filename)[1] else filename + ".mp4"
    try:
        size = os.stat(path).st_size
    except OSError:
        return  # the videos may be gone once the packs are made
    if size != pack.meta["video_bytes"]:
        raise PackError(f"{pack.path} is stale: {path} has changed since.")


def windows(pack: Pack, frames: Collection[int]) -> List["Window"]:
    """Return the named frames, each decoded once; a frame named twice is two windows."""
    decoded = {int(frame): decode_still(pack, int(frame)) for frame in set(map(int, frames))}
    seen, shown = set(), []
    for frame in map(int, frames):
        crop = decoded[frame].copy() if frame in seen else decoded[frame]  # Flip works in place
        seen.add(frame)
        shown.append(Window(crop, pack.box, pack.size))
    return shown


def decode_still(pack: Pack, frame: int) -> np.ndarray:
    """Return one stored region, (h, w, 3) RGB."""
    left, top, right, bottom = pack.box
    crop = decode(pack.still(frame), (bottom - top, right - left))
    if crop is None:
        raise PackError(f"{pack.path}: frame {frame} is not a picture of its region.")
    return crop


class Window:
    """A picture of which only a region is there; it can be padded and cut like an array.

    Args:
        crop: the region, (h, w, 3).
        box: where it lies: left, top, right, bottom.
        size: height and width of the whole picture.
    """

    def __init__(self, crop: np.ndarray, box: Sequence[int], size: Sequence[int]) -> None:
        self._crop = crop
        self._box = tuple(box)
        self._size = tuple(size)
        self._pad = (0, 0)  # black above and on the left, as np.pad puts it
        self.shape = (*self._size, 3)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is not np.pad:
            return NotImplemented
        return self._padded(*args[1:], **kwargs)

    def _padded(self, widths: Any, mode: str = "constant") -> "Window":
        (top, bottom), (left, right), depth = widths
        if mode != "constant" or tuple(depth) != (0, 0):
            return NotImplemented
        padded = Window(self._crop, self._box, self._size)
        padded._pad = (self._pad[0] + top, self._pad[1] + left)
        height, width = self.shape[:2]
        padded.shape = (height + top + bottom, width + left + right, 3)
        return padded

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return a cut as an array: black where padded, a view of the region if nothing is."""
        (top, bottom, _), (left, right, _) = (
            part.indices(side) for part, side in zip(key, self.shape)
        )
        # From here on in pixels of the picture itself.
        top, bottom = top - self._pad[0], bottom - self._pad[0]
        left, right = left - self._pad[1], right - self._pad[1]
        height, width = self._size
        inner = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        shape = max(bottom - top, 0), max(right - left, 0), 3
        if inner[0] >= inner[2] or inner[1] >= inner[3]:  # all joints are beside the picture
            return np.zeros(shape, self._crop.dtype)
        x0, y0, x1, y1 = self._box
        if not (x0 <= inner[0] and y0 <= inner[1] and inner[2] <= x1 and inner[3] <= y1):
            raise PackError(f"The cut {inner} is outside the stored region {self._box}.")
        part = self._crop[inner[1] - y0 : inner[3] - y0, inner[0] - x0 : inner[2] - x0]
        if inner == (left, top, right, bottom):
            return part
        cut = np.zeros(shape, part.dtype)
        cut[inner[1] - top : inner[3] - top, inner[0] - left : inner[2] - left] = part
        return cut

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(
            "A prepared clip has no whole pictures: MMCompact has to follow PackDecode."
        )


def fallbacks_of(dataset: Any) -> int:
    """Return how many samples of a built data set came from videos instead of packs."""
    while not hasattr(dataset, "pipeline") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset  # RepeatDataset and the like
    steps = getattr(getattr(dataset, "pipeline", None), "transforms", ())
    return sum(step.fallbacks.total for step in steps if hasattr(step, "fallbacks"))
