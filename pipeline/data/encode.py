"""Turn a region of a frame into an encoded still.

`jpeg` keeps a floor: its quality is raised within a clip until its stills are at least 44 dB from
their source, so that plain pictures stay small and noisy or colourful ones stay true. `webp` is
lossless.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.data.video import Picture, VideoError
from pipeline.shared.planes import is_planes, to_planes, to_rgb

#: Training packs by profile; validation packs are always lossless.
PROFILES = {"fine": "jpeg", "exact": "webp"}
#: dB of a still at its own size. After the resizes of the chain pictures are closer (+3 dB at
#: 224 px, measured): the region's finest detail, where the error is, does not reach the network.
FLOOR_DB = 44.0
QUALITIES = (86, 88, 90, 92, 94, 96, 98, 100)  # at 100 only rounding is lost
CHECK_EVERY = 8  # stills; decoding each to look at it would cost a quarter of `prepare`

Encode = Callable[[Picture], bytes]


def encoder(codec: str) -> Encode:
    """Return a function from RGB regions of one clip, in order, to encoded stills."""
    return Jpeg() if codec == "jpeg" else Webp()


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
            while (
                len(self._qualities) > 1
                and psnr(decoded(still, region.shape[:2]), region) < FLOOR_DB
            ):
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


class Webp:
    """Lossless WebP, of the video's own planes where a region gives them back.

    By Pillow: OpenCV cannot set the effort, and its own takes 2.6 times as long. Effort 2 of 6
    gave the smallest files but for the highest, which takes 100 times as long.
    """

    def __call__(self, region: Picture) -> bytes:
        from PIL import Image

        planes = to_planes(region)
        picture = Image.fromarray(np.ascontiguousarray(region if planes is None else planes))
        stream = io.BytesIO()
        try:
            picture.save(stream, "WEBP", lossless=True, quality=30, method=2)
        except (OSError, ValueError) as error:
            raise VideoError(f"a region of {region.shape} is too large for WebP") from error
        return stream.getvalue()


def decoded(still: bytes, size: tuple[int, ...]) -> Picture:
    """Return a still as an RGB region of this height and width."""
    import cv2

    picture = cv2.imdecode(np.frombuffer(still, np.uint8), cv2.IMREAD_COLOR)
    height, width = size
    if is_planes(picture, (height, width)):
        return np.asarray(to_rgb(picture[..., 0], (height, width)), np.uint8)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def psnr(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite if both are the same."""
    difference = one.astype(np.float32) - other
    squares = float(np.mean(np.square(difference)))
    return 10 * math.log10(255**2 / squares) if squares else math.inf
