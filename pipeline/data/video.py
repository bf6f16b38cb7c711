"""Decode a video frame by frame; decord is imported when first used."""

import contextlib
from collections.abc import Iterator, Set
from pathlib import Path

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


class VideoError(Exception):
    """A video is missing or cannot be decoded."""


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    import decord

    try:
        yield
    except (decord.DECORDError, RuntimeError) as error:
        last = str(error).strip().splitlines()[-1:] or ["no reason given"]
        raise VideoError(f"{path} cannot be decoded: {last[0][:200]}") from error


def video_path(folder: str, clip: str) -> Path:
    """Return the file of a clip; without an ending it is an mp4, as MMAction2 takes it."""
    path = Path(folder, clip)
    return path if path.suffix else path.with_name(path.name + ".mp4")


def frames(path: Path) -> Iterator[Picture]:
    """Yield all frames in order, (H, W, 3) RGB.

    Raises:
        VideoError: missing or damaged.
    """
    return (picture for _, picture in numbered(path, None))


def numbered(path: Path, numbers: Set[int] | None) -> Iterator[tuple[int, Picture]]:
    """Yield frames in order with their numbers, (H, W, 3) RGB; None wants all.

    The others are decoded, too, but not copied: a sixth of the time of a 540p clip.
    In order and one at a time: asking decord for single frames of a file without time stamps has
    returned wrong ones, and a 1080p clip as one array is 640 MB.

    Raises:
        VideoError: missing or damaged.
    """
    import decord

    if not path.is_file():
        raise VideoError(f"{path} is missing")
    with _explained(path):
        reader = decord.VideoReader(str(path), num_threads=1)
        for number in range(len(reader)):
            picture = reader.next()
            if numbers is None or number in numbers:
                yield number, picture.asnumpy()


def frame_count(path: Path) -> int:
    """Return how many frames a video has.

    Raises:
        VideoError: missing or damaged.
    """
    import decord

    with _explained(path):
        return len(decord.VideoReader(str(path), num_threads=1))
