"""Draw a person given by joints into frames; OpenCV is imported when first used.

A camera turns the metres of `motions` into pixels; clothes, background and what is held
are drawn from the clip's own random numbers.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.motions import LEFT_HAND, RIGHT_HAND, Floats

Image = npt.NDArray[np.uint8]

LIMBS = (
    ((11, 13), (13, 15), (12, 14), (14, 16)),  # legs
    ((5, 7), (7, 9), (6, 8), (8, 10)),  # arms
)
TORSO = (5, 6, 12, 11)
# Fixed-point bits of OpenCV's drawing functions: joints move by less than a pixel a frame.
SHIFT = 4


@dataclasses.dataclass(frozen=True)
class Camera:
    """Where the camera stands: turn around the person, pixels a metre, image centre."""

    yaw: float
    scale: float
    centre: tuple[float, float]

    @classmethod
    def draw(cls, size: int, rng: np.random.Generator) -> "Camera":
        """Draw a camera that has the whole person in a square picture."""
        scale = size * rng.uniform(0.36, 0.46)
        centre = size * rng.uniform(0.42, 0.58), size * rng.uniform(0.50, 0.56)
        return cls(yaw=rng.uniform(-0.7, 0.7), scale=scale, centre=centre)

    def project(self, joints: Floats) -> Floats:
        """Turn (..., 3) metres into (..., 2) pixels, parallel projection from slightly above."""
        x = joints[..., 0] * np.cos(self.yaw) + joints[..., 2] * np.sin(self.yaw)
        z = joints[..., 2] * np.cos(self.yaw) - joints[..., 0] * np.sin(self.yaw)
        y = joints[..., 1] - 0.9 - 0.25 * z
        return np.stack(
            [self.centre[0] + self.scale * x, self.centre[1] - self.scale * y], axis=-1
        )


@dataclasses.dataclass(frozen=True)
class Look:
    """Colours of one clip, all BGR."""

    trousers: tuple[int, int, int]
    shirt: tuple[int, int, int]
    skin: tuple[int, int, int]
    thing: tuple[int, int, int]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Look":
        """Draw clothes, skin and the colour of the thing that may be held."""
        trousers, shirt = rng.integers(30, 226, (2, 3)).tolist()
        skin = (np.array([120, 150, 200]) * rng.uniform(0.5, 1.1)).astype(int).tolist()
        thing = rng.integers([170, 60, 0], [256, 240, 60]).tolist()  # blue to turquoise
        return cls(tuple(trousers), tuple(shirt), tuple(skin), tuple(thing))


def background(size: int, rng: np.random.Generator) -> Image:
    """Return a cluttered picture without a person: blurred noise and some boxes."""
    import cv2

    grey = rng.integers(60, 200, (6, 6, 1))
    coarse = np.clip(grey + rng.integers(-25, 26, (6, 6, 3)), 0, 255).astype(np.uint8)
    picture = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 4))):
        x, y, w, h = (size * rng.uniform(0.0, [0.9, 0.9, 0.35, 0.35])).astype(int).tolist()
        colour = (rng.integers(30, 200) + rng.integers(-20, 21, 3)).tolist()
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
    return np.asarray(picture, dtype=np.uint8)


def draw_person(picture: Image, joints: Floats, look: Look, scale: float, held: str) -> None:
    """Draw one frame's person into the picture, in place.

    Args:
        joints: (17, 2) pixels.
        scale: pixels a metre, for the thickness of limbs.
        held: "", "flag" or "cup"; in the hand that is higher up.
    """
    import cv2

    points = np.round(joints * (1 << SHIFT)).astype(np.int64)

    def line(a: int, b: int, colour: tuple[int, int, int], metres: float) -> None:
        thick = max(1, round(metres * scale))
        start, end = points[a].tolist(), points[b].tolist()
        cv2.line(picture, start, end, colour, thick, cv2.LINE_AA, SHIFT)

    def disc(at: Floats, metres: float, colour: tuple[int, int, int]) -> None:
        centre = np.round(at * (1 << SHIFT)).astype(int).tolist()
        radius = round(metres * scale * (1 << SHIFT))
        cv2.circle(picture, centre, radius, colour, -1, cv2.LINE_AA, SHIFT)

    legs, arms = LIMBS
    for a, b in legs:
        line(a, b, look.trousers, 0.13)
    torso = points[list(TORSO)].reshape(-1, 1, 2).astype(np.int32)
    cv2.fillPoly(picture, [torso], look.shirt, cv2.LINE_AA, SHIFT)
    line(5, 6, look.shirt, 0.12)
    disc(joints[[0, 3, 4]].mean(axis=0), 0.12, look.skin)
    for a, b in arms:
        line(a, b, look.shirt if a < 7 else look.skin, 0.09)
    if held:
        hand = LEFT_HAND if joints[LEFT_HAND, 1] < joints[RIGHT_HAND, 1] else RIGHT_HAND
        _draw_held(picture, joints[hand], look.thing, scale, held, cv2)


def _draw_held(
    picture: Image, hand: Floats, colour: tuple[int, int, int], scale: float, held: str, cv2: Any
) -> None:
    width, height = {"flag": (0.36, 0.26), "cup": (0.20, 0.24)}[held]
    base = hand - [0, (0.22 if held == "flag" else 0.03) * scale]
    corner = base + np.array([width, -height]) * scale
    ends = [np.round(p * (1 << SHIFT)).astype(int).tolist() for p in (base, corner)]
    cv2.rectangle(picture, ends[0], ends[1], colour, -1, cv2.LINE_AA, SHIFT)
    if held == "flag":
        foot = np.round(hand * (1 << SHIFT)).astype(int).tolist()
        top = np.round((hand - [0, 0.42 * scale]) * (1 << SHIFT)).astype(int).tolist()
        cv2.line(picture, foot, top, colour, 1, cv2.LINE_AA, SHIFT)
