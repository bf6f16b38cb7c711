"""The three planes that a video frame was made of, and back, without losing a bit.

H.264 stores brightness (Y) in full and two colour planes (U, V) in half the resolution; FFmpeg
turns them into RGB in 16-bit fixed point, repeating each colour value over 2 x 2 pixels.
`to_planes` finds the integers it began with: half the numbers, and no gaps between their levels,
so that a lossless still is a fifth to a third smaller. `to_rgb` computes what FFmpeg did.

Pictures that came about in another way (other colours, another processor's FFmpeg) have no such
planes; `to_planes` returns nothing that does not give back every pixel.
Both sides use this module, so it keeps to Python 3.8, numpy and OpenCV.
"""

from functools import lru_cache
from typing import Any, Optional, Tuple

import cv2
import numpy as np

Array = Any  # of numpy; its types are not those of all versions this runs on

_LEVEL = np.arange(256)


def _scaled(offset: int, factor: int) -> Array:
    """Return a term of the conversion for each level, as a 13-bit fixed-point product."""
    return (((_LEVEL - offset) * factor) >> 13).astype(np.int16)


# ITU-R BT.601 for levels 16 to 235, the factors as libswscale rounds them.
_Y, _RV, _BU = _scaled(16, 9539), _scaled(128, 13075), _scaled(128, 16525)
_GU, _GV = _scaled(128, -3209), _scaled(128, -6660)
#: Levels of brightness whose terms are numbers of 8 bits, as in almost all pictures.
_PLAIN = 16, 235
_Y_BYTES = _Y.clip(0, 255).astype(np.uint8)


def is_planes(still: Array, size: Tuple[int, int]) -> bool:
    """Return whether a decoded still is the planes of a picture of this size, not the picture."""
    height, width = size
    return height % 2 == 0 and still.shape[:2] == (height * 3 // 2, width)


def to_rgb(planes: Array, size: Tuple[int, int]) -> Array:
    """Return the picture that planes stand for.

    Args:
        planes: (H * 3 / 2, W) uint8: Y above U and V side by side.
        size: height and width of the picture, even.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = size
    bright, u, v = planes[:height], planes[height:, : width // 2], planes[height:, width // 2 :]
    green = cv2.add(cv2.LUT(u, _GU), cv2.LUT(v, _GV))
    shares = cv2.vconcat([cv2.LUT(v, _RV), green, cv2.LUT(u, _BU)])
    plain = _PLAIN[0] <= bright.min() and bright.max() <= _PLAIN[1]
    term = cv2.LUT(bright, _Y_BYTES if plain else _Y)
    three = (_sum_bytes if plain else _sum_words)(cv2.vconcat([term] * 3), shares)
    return cv2.merge([three[:height], three[height : 2 * height], three[2 * height :]])


def _sum_bytes(terms: Array, shares: Array) -> Array:
    """Return three channels one above the other, (H * 3, W) uint8; 8 bits are faster than 16.

    A share is added where it is positive and taken off where it is not, and what goes beyond
    black or white stays there, as in `_sum_words`.

    Args:
        terms: (H * 3, W) uint8, of the brightness.
        shares: (H * 3 / 2, W / 2) int16, of the colours.
    """
    above = cv2.add(shares, 0, dtype=cv2.CV_8U)
    below = cv2.subtract(0, shares, dtype=cv2.CV_8U)
    return cv2.subtract(cv2.add(terms, _doubled(above)), _doubled(below))


def _doubled(share: Array) -> Array:
    """Return each byte twice in both directions."""
    return np.multiply(share, 0x101, dtype=np.uint16).view(np.uint8).repeat(2, axis=0)


def _sum_words(terms: Array, shares: Array) -> Array:
    """Return the same for any brightness; `terms` are int16."""
    wide = cv2.merge([shares, shares]).reshape(len(shares), -1)
    return cv2.add(terms, wide.repeat(2, axis=0), dtype=cv2.CV_8U)


def to_planes(picture: Array) -> Optional[Array]:
    """Return the planes of a picture, None if it has none.

    Args:
        picture: (H, W, 3) uint8 RGB, cut at even pixels of its frame.

    Returns:
        (H * 3 / 2, W) uint8; `to_rgb` gives back the picture to the last bit.
    """
    size = height, width = picture.shape[:2]
    if height % 2 or width % 2:
        return None
    for pixels, brightness in ((_first_pixels, _from_green), (_best_pixels, _from_any)):
        u, v = _colours(pixels(picture))
        y = _level_table()[brightness(picture, u, v) + 512]
        planes = np.concatenate([y, np.concatenate([u, v], axis=1)], axis=0)
        if np.array_equal(to_rgb(planes, size), picture):
            return planes
    return None


def _first_pixels(picture: Array) -> Array:
    return picture[::2, ::2].astype(np.int64)


def _from_green(picture: Array, u: Array, v: Array) -> Array:
    height, width = picture.shape[:2]
    share = cv2.resize(_GU[u] + _GV[v], (width, height), interpolation=cv2.INTER_NEAREST)
    return picture[..., 1].astype(np.int64) - share


def _best_pixels(picture: Array) -> Array:
    """Return of each 2 x 2 pixels the one farthest from being cut off at black or white."""
    height, width = picture.shape[:2]
    four = picture.reshape(height // 2, 2, width // 2, 2, 3).swapaxes(1, 2)
    four = four.reshape(height // 2, width // 2, 4, 3)
    best = np.minimum(four, 255 - four).min(axis=-1).argmax(axis=-1)
    return np.take_along_axis(four, best[..., None, None], axis=2)[:, :, 0].astype(np.int64)


def _from_any(picture: Array, u: Array, v: Array) -> Array:
    """Return the brightness by a channel that is not cut off, green if all are."""
    share = np.stack([_RV[v], _GU[u] + _GV[v], _BU[u]], axis=-1).repeat(2, axis=0)
    bright = picture.astype(np.int64) - share.repeat(2, axis=1)
    whole = (picture > 0) & (picture < 255)
    channel = np.where(whole.any(axis=-1), whole.argmax(axis=-1), 1)[..., None]
    return np.take_along_axis(bright, channel, axis=-1)[..., 0]


def _colours(pixel: Array) -> Tuple[Array, Array]:
    """Return U and V of pixels, (H / 2, W / 2, 3)."""
    red, blue = pixel[..., 0] - pixel[..., 1], pixel[..., 2] - pixel[..., 1]
    both = _colour_table()[red + 512, blue + 512]
    return (both >> 8).astype(np.uint8), (both & 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _colour_table() -> Array:
    """Return U * 256 + V for red minus green (+ 512) and blue minus green (+ 512), (1024, 1024).

    Brightness is in both channels alike, so it is not in their difference.
    """
    u, v = np.divmod(np.arange(256 * 256), 256)
    green = _GU[u].astype(np.int64) + _GV[v]
    table = np.full((1024, 1024), 128 * 256 + 128, np.int32)
    order = np.argsort(-(np.abs(u - 128) + np.abs(v - 128)))  # of equal ones, the paler stays
    u, v, green = u[order], v[order], green[order]
    table[_RV[v] - green + 512, _BU[u] - green + 512] = u * 256 + v
    return table


@lru_cache(maxsize=1)
def _level_table() -> Array:
    """Return Y for its term in the conversion (+ 512); between two of them, the nearest."""
    return np.abs(np.arange(-512, 1024)[:, None] - _Y).argmin(axis=1).astype(np.uint8)
