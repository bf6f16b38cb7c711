"""Turn a region of a frame into an encoded still.

`jpeg` keeps a floor: its quality is raised within a clip until its stills are at least 44 dB from
their source, so that plain pictures stay small and noisy or colourful ones stay true. `lossless`
gives back every pixel.
"""

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.video import Picture, VideoError
from pipeline.shared.planes import to_planes
from pipeline.shared.stills import MOST_NUMBERS, decode, encode_planes

JPEG, LOSSLESS = "jpeg", "lossless"
#: Training packs by profile; validation packs are always lossless.
PROFILES = {"fine": JPEG, "exact": LOSSLESS}
#: dB of a still at its own size. After the resizes of the chain pictures are closer (+3 dB at
#: 224 px, measured): the region's finest detail, where the error is, does not reach the network.
FLOOR_DB = 44.0
QUALITIES = (86, 88, 90, 92, 94, 96, 98, 100)  # at 100 only rounding is lost
CHECK_EVERY = 8  # stills; decoding each to look at it would cost a quarter of `prepare`

Encode = Callable[[Picture], bytes]


def codec_of(head: Mapping[str, Any]) -> str:
    """Return the codec that a pack's head names; lossless packs were all WebP once."""
    codec = str(head.get("codec"))
    return LOSSLESS if codec == "webp" else codec


def encoder(codec: str) -> Encode:
    """Return a function from RGB regions of one clip, in order, to encoded stills."""
    return Jpeg() if codec == JPEG else Lossless()


class Jpeg:
    """JPEG in full colour resolution, of the least quality that keeps the floor.

    Halved colour saves nothing: at equal size it is 2 to 6 dB worse on coloured clips, grey ones
    have none to halve.
    """

    def __init__(self) -> None:
        self._qualities = list(QUALITIES)  # those still allowed, ascending
        self._count = 0

    def __call__(self, region: Picture) -> bytes:
        still = self._encode(region)
        if self._count % CHECK_EVERY == 0:
            while len(self._qualities) > 1 and psnr(_decoded(still, region), region) < FLOOR_DB:
                self._qualities.pop(0)
                still = self._encode(region)
        self._count += 1
        return still

    def _encode(self, region: Picture) -> bytes:
        import cv2

        flags = [cv2.IMWRITE_JPEG_QUALITY, self._qualities[0]]
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        # In BGR order, which OpenCV's encoders expect: else red and blue swap their weights.
        done, still = cv2.imencode(".jpg", cv2.cvtColor(region, cv2.COLOR_RGB2BGR), flags)
        if not done:
            raise VideoError(f"a region of {region.shape} could not be encoded as JPEG")
        return still.tobytes()


class Lossless:
    """Differences of the video's own planes where a region gives them back, else WebP of its RGB.

    WebP by Pillow: OpenCV cannot set the effort, and its own takes 2.6 times as long. Effort 2 of
    6 gave the smallest files but for the highest, which takes 100 times as long.
    """

    def __call__(self, region: Picture) -> bytes:
        planes = to_planes(region)
        if planes is not None and planes.size <= MOST_NUMBERS:
            return encode_planes(planes)
        return _webp(region)


def _webp(region: Picture) -> bytes:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(region))
    stream = io.BytesIO()
    try:
        picture.save(stream, "WEBP", lossless=True, quality=30, method=2)
    except (OSError, ValueError) as error:
        raise VideoError(f"a region of {region.shape} is too large for WebP") from error
    return stream.getvalue()


def _decoded(still: bytes, region: Picture) -> Picture:
    height, width = region.shape[:2]
    picture = decode(still, (height, width))
    assert picture is not None, "it was encoded just now"
    return np.asarray(picture, np.uint8)


def psnr(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite if both are the same."""
    difference = one.astype(np.float32) - other
    squares = float(np.mean(np.square(difference)))
    return 10 * math.log10(255**2 / squares) if squares else math.inf
