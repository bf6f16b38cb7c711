"""The stills of packs: one function that reads them all, and the lossless form we write.

A lossless still is made for the time it takes to read. Of each number of a frame's planes its
left and upper neighbours are taken off and the one between them is put back. Hardly any of these
differences is beyond 7, so two go into a byte, and the bytes are Huffman-coded by zlib; the others
follow. OpenCV puts the differences together again in one pass, as an integral image. WebP takes a
tenth more bytes and three times as long.
Both sides use this module, so it keeps to Python 3.8, numpy, OpenCV and the standard library.
"""

import contextlib
import struct
import zlib
from typing import Any, Optional, Tuple

import cv2
import numpy as np

from pipeline.shared.planes import is_planes, to_rgb

# ISA-L's vector code takes half of zlib's time; an environment of a user's own may lack it.
_zlib: Any = zlib
with contextlib.suppress(ImportError):
    from isal import isal_zlib as _zlib

Array = Any  # of numpy; its types are not those of all versions this runs on

#: What such a still begins with (no JPEG and no WebP does), and its picture's height and width.
_HEAD = struct.Struct("<4sII")
_MAGIC = b"PCDF"
#: Differences of -7 to 7 are the codes 1 to 15; 0 stands for one that follows on its own.
_CODE = np.zeros(256, np.uint8)
_CODE[np.arange(-7, 8) % 256] = np.arange(1, 16)
#: What stands in the place of the latter until they are put there; no code has this difference.
_OTHER = 8
_DIFFERENCE = np.array([_OTHER, *(np.arange(-7, 8) % 256)], np.uint8)
#: The two differences of a byte, as one number of 16 bits.
_PAIR = np.stack([_DIFFERENCE.repeat(16), np.tile(_DIFFERENCE, 16)], axis=1).view(np.uint16)[:, 0]
#: An integral image in 32 bits holds this many numbers of 8 bits.
MOST_NUMBERS = (2**31 - 1) // 255
# OpenCV from 4.11 decodes to RGB; before, one more pass over the pixels.
_RGB_FLAG = getattr(cv2, "IMREAD_COLOR_RGB", None)


def decode(still: bytes, size: Tuple[int, int]) -> Optional[Array]:
    """Return a still's picture, (H, W, 3) uint8 RGB, None if it is not one of this size.

    Args:
        still: JPEG, WebP, or the differences of planes (`encode_planes`).
        size: height and width of the picture.
    """
    if still.startswith(_MAGIC):
        planes = _decode_planes(still, size)
        return None if planes is None else to_rgb(planes, size)
    if not still:
        return None
    flag = cv2.IMREAD_COLOR if _RGB_FLAG is None else _RGB_FLAG
    picture = cv2.imdecode(np.frombuffer(still, np.uint8), flag)
    if picture is None:
        return None
    if is_planes(picture, size):  # a WebP of planes, as lossless stills were before
        return to_rgb(picture[..., 0], size)
    if picture.shape[:2] != tuple(size):
        return None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if _RGB_FLAG is None else picture


def encode_planes(planes: Array) -> bytes:
    """Return the lossless still of planes (`planes.to_planes`), (H * 3 / 2, W) uint8.

    Raises:
        ValueError: they are more than `MOST_NUMBERS`.
    """
    if planes.size > MOST_NUMBERS:
        raise ValueError(f"{planes.size:,} numbers are more than {MOST_NUMBERS:,}")
    differences = planes.copy()  # all modulo 256
    differences[1:] -= planes[:-1]
    differences[:, 1:] -= differences[:, :-1].copy()
    codes = _CODE[differences].reshape(-1, 2)
    others = differences[_CODE[differences] == 0]
    pairs = codes[:, 0] << 4 | codes[:, 1]
    numbers = pairs.tobytes() + others.tobytes()
    head = _HEAD.pack(_MAGIC, len(planes) // 3 * 2, planes.shape[1])
    # Runs help where a picture is flat, as depth is; elsewhere they cost time and bytes.
    coded = [_deflated(numbers, how) for how in (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)]
    return head + min(coded, key=len)


def _deflated(numbers: bytes, strategy: int) -> bytes:
    encoder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return encoder.compress(numbers) + encoder.flush()


def _decode_planes(still: bytes, size: Tuple[int, int]) -> Optional[Array]:
    if len(still) < _HEAD.size or _HEAD.unpack_from(still) != (_MAGIC, *size):
        return None
    height, width = size[0] * 3 // 2, size[1]
    pairs = height * width // 2
    try:
        # Raw deflate: a pack has its own checksum of every still.
        inflated = _zlib.decompress(still[_HEAD.size :], -zlib.MAX_WBITS, 2 * pairs)
        numbers = np.frombuffer(inflated, np.uint8)
        differences = cv2.LUT(numbers[:pairs].reshape(height, width // 2), _PAIR).view(np.uint8)
        differences.reshape(-1)[np.flatnonzero(differences == _OTHER)] = numbers[pairs:]
    except (_zlib.error, ValueError):  # not these planes' numbers
        return None
    return cv2.integral(differences)[1:, 1:].astype(np.uint8)
