"""Which part of a clip's frames training can ever ask for.

MMAction2 draws one frame from each of 32 known segments of a clip, takes the hull of the joints in
them, pads it and makes it square (`MMUniformSampleFrames`, `MMCompact`). The box of all frames
need not contain what is drawn, because the square is centred again for every draw. But each edge
of a drawn hull lies in a known interval, so the outermost edges of any box can be computed.
"""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

Joints = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Compact:
    """Arguments of `MMCompact`, by its names and with its defaults."""

    padding: float = 0.25
    threshold: int = 10
    hw_ratio: tuple[float, float] | None = (1.0, 1.0)
    allow_imgpad: bool = True


def segments(frames: int, clip_len: int) -> npt.NDArray[np.int64]:
    """Return the first and last frame of each segment a drawn clip has a frame of, (S, 2).

    Three rules, as in `UniformSampleFrames`: shorter than the clip length (all frames, wrapped
    around), shorter than twice that (a step of 0 or 1 before each frame), longer (equal parts).
    """
    if frames < clip_len:
        every = np.arange(frames)
        return np.stack([every, every], axis=1)
    slot = np.arange(clip_len)
    if frames < 2 * clip_len:
        skipped = frames - clip_len  # this many steps of 1 are spread over clip_len + 1 places
        first = slot + np.maximum(0, skipped - (clip_len - slot))
        return np.stack([first, slot + np.minimum(slot + 1, skipped)], axis=1)
    bounds = np.arange(clip_len + 1) * frames // clip_len
    return np.stack([bounds[:-1], bounds[1:] - 1], axis=1)


def validation_frames(frames: int, clip_len: int, seed: int = 255) -> npt.NDArray[np.int64]:
    """Return the frames that one test-mode clip always shows (`num_clips` = 1)."""
    random = np.random.RandomState(seed)
    slot = np.arange(clip_len)
    if frames < clip_len:
        return slot % frames
    if frames < 2 * clip_len:
        chosen = random.choice(clip_len + 1, frames - clip_len, replace=False)
        steps = np.zeros(clip_len + 1, np.int64)
        steps[chosen] = 1
        return np.asarray(slot + np.cumsum(steps)[:-1])
    bounds = np.arange(clip_len + 1) * frames // clip_len
    return np.asarray(bounds[:-1] + random.randint(np.diff(bounds)))


def superset(
    joints: Joints, size: tuple[int, int], drawn: npt.NDArray[np.int64], compact: Compact
) -> Box:
    """Return a box that holds every box MMCompact can cut from any draw.

    Args:
        joints: (M, T, V, 2) in pixels of the video; 0 is missing, in x and y apart.
        size: height and width of the video.
        drawn: (S, 2) first and last frame of each segment; a draw has a frame of each.

    Returns:
        Left, top, right, bottom, inside the picture.
    """
    height, width = size
    sides = [_edges(joints[..., axis], drawn) for axis in (0, 1)]
    low, high = zip(*sides, strict=True)  # of the hull: (x, y), each an interval
    # Too small a hull, or none at all, and the whole picture is kept: then it has to be here.
    if any(h[0] - lo[1] < compact.threshold for lo, h in sides):
        return 0, 0, width, height
    # Without padding, a box left of or above the picture is a slice with a negative end, which
    # counts from the other side.
    if not compact.allow_imgpad and any(h[0] <= 0 for _, h in sides):
        return 0, 0, width, height
    centre = [((lo[0] + h[0]) / 2, (lo[1] + h[1]) / 2) for lo, h in zip(low, high, strict=True)]
    half_x, half_y = (
        (h[1] - lo[0]) / 2 * (1 + compact.padding) for lo, h in zip(low, high, strict=True)
    )
    if compact.hw_ratio is not None:
        half_y = max(compact.hw_ratio[0] * half_x, half_y)
        half_x = max(half_y / compact.hw_ratio[1], half_x)
    # One pixel more on each side: the stock code rounds in float32 and truncates to integers.
    left = max(0, math.floor(centre[0][0] - half_x) - 1)
    top = max(0, math.floor(centre[1][0] - half_y) - 1)
    right = min(width, math.ceil(centre[0][1] + half_x) + 1)
    bottom = min(height, math.ceil(centre[1][1] + half_y) + 1)
    if right <= left or bottom <= top:  # joints beside the picture
        return 0, 0, width, height
    return left, top, right, bottom


Interval = tuple[float, float]


def _edges(
    places: npt.NDArray[np.float32], drawn: npt.NDArray[np.int64]
) -> tuple[Interval, Interval]:
    """Return the intervals of a drawn hull's lower and upper edge along one axis.

    The lower edge is at least the least of all frames, and at most the least that the worst
    choice leaves in some segment; the upper edge likewise.
    """
    seen = places != 0
    least = np.where(seen, places, np.inf).min(axis=(0, 2))  # (T,)
    most = np.where(seen, places, -np.inf).max(axis=(0, 2))
    worst_least = min(float(least[a : b + 1].max()) for a, b in drawn)
    worst_most = max(float(most[a : b + 1].min()) for a, b in drawn)
    return (float(least.min()), worst_least), (worst_most, float(most.max()))
