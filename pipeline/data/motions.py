"""A moving person in 3-D: the eight actions of the demo set as COCO-17 joints.

Pure geometry: no images, no files. Metres, x to the person's left, y up, z to the front.
Pairs of actions differ in what is held (seen only in the picture) or in the order of time
(seen only in motion), so that no single frame and no skeleton alone separates all eight.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

UPPER_ARM, FOREARM = 0.30, 0.27
# Standing still; rows are COCO-17 joints, odd ones (1, 3, ...) on the person's left.
STANDING: Floats = np.array(
    [
        [0.0, 1.62, 0.10],  # nose
        [0.03, 1.66, 0.08],  # eyes
        [-0.03, 1.66, 0.08],
        [0.08, 1.64, 0.0],  # ears
        [-0.08, 1.64, 0.0],
        [0.19, 1.42, 0.0],  # shoulders
        [-0.19, 1.42, 0.0],
        [0.24, 1.14, 0.0],  # elbows
        [-0.24, 1.14, 0.0],
        [0.25, 0.88, 0.06],  # wrists
        [-0.25, 0.88, 0.06],
        [0.12, 0.92, 0.0],  # hips
        [-0.12, 0.92, 0.0],
        [0.13, 0.50, 0.03],  # knees
        [-0.13, 0.50, 0.03],
        [0.14, 0.08, 0.0],  # ankles
        [-0.14, 0.08, 0.0],
    ]
)
UPPER_BODY = slice(0, 11)
LEFT_HAND, RIGHT_HAND = 9, 10


@dataclasses.dataclass(frozen=True)
class Style:
    """How one person does it: drawn again for each clip.

    Args:
        speed: cycles of a repeated movement within the clip.
        phase: where the first cycle starts, in cycles.
        size: amplitude of the movement, 1 is normal.
        start: when a single movement begins, as a share of the clip.
        duration: how long it takes, likewise.
    """

    speed: float
    phase: float
    size: float
    start: float
    duration: float

    def cycle(self, t: Floats) -> Floats:
        """Return the swing in [-1, 1] of a repeated movement at clip times t in [0, 1]."""
        swing: Floats = np.sin(2 * np.pi * (self.speed * t + self.phase))
        return self.size * swing

    def ramp(self, t: Floats) -> Floats:
        """Return the progress of a single movement: 0 before it, 1 after it, smooth."""
        x = np.clip((t - self.start) / self.duration, 0, 1)
        return x * x * (3 - 2 * x)


def wave(t: Floats, style: Style) -> Floats:
    """Swing the raised right hand from side to side."""
    swing = style.cycle(t)
    hand = _path(-0.38 + 0.17 * swing, 1.66 - 0.05 * np.abs(swing), np.full_like(t, 0.18))
    return _with_hands(_standing(t), right=hand)


def clap(t: Floats, style: Style) -> Floats:
    """Bring the hands together and apart before the chest."""
    apart = 0.20 + 0.15 * style.cycle(t)
    left = _path(apart, np.full_like(t, 1.25), np.full_like(t, 0.32))
    return _with_hands(_standing(t), left=left, right=left * [-1, 1, 1])


def box(t: Floats, style: Style) -> Floats:
    """Thrust the fists to the front, one after the other."""
    reach = 0.34 + 0.18 * style.cycle(t)
    left = _path(np.full_like(t, 0.13), np.full_like(t, 1.35), reach)
    right = _path(np.full_like(t, -0.13), np.full_like(t, 1.35), 0.68 - reach)
    return _with_hands(_standing(t), left=left, right=right)


def bend(t: Floats, style: Style) -> Floats:
    """Bend down and reach the floor with the right hand."""
    down = style.ramp(t) * min(style.size, 1.1)
    joints = _standing(t)
    pivot = np.array([0.0, 0.92, 0.0])
    angle = 1.15 * down
    upper = joints[:, UPPER_BODY] - pivot
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    y, z = upper[..., 1] * cos - upper[..., 2] * sin, upper[..., 1] * sin + upper[..., 2] * cos
    joints[:, UPPER_BODY] = np.stack([upper[..., 0], y, z], axis=-1) + pivot
    joints[:, :13, 1] -= 0.22 * down[:, None]
    joints[:, 13:15, 2] += 0.20 * down[:, None]
    joints[:, 13:15, 1] -= 0.05 * down[:, None]
    hand = _path(-0.25 + 0.12 * down, 0.88 - 0.62 * down, 0.06 + 0.40 * down)
    return _with_hands(joints, right=hand)


def rise(t: Floats, style: Style) -> Floats:
    """Come up from the floor: `bend` backwards in time."""
    return bend(t, style)[::-1]


def to_face(t: Floats, style: Style) -> Floats:
    """Lift the right hand to the face and hold it there."""
    up = style.ramp(t)
    hand = _path(-0.25 + 0.15 * up, 0.95 + 0.62 * up * min(style.size, 1.05), 0.10 + 0.10 * up)
    return _with_hands(_standing(t), right=hand)


@dataclasses.dataclass(frozen=True)
class Action:
    """One class of the demo set: a movement and what is held while doing it."""

    name: str
    move: Callable[[Floats, Style], Floats]
    held: str = ""


ACTIONS = (
    Action("wave", wave),
    Action("wave_flag", wave, held="flag"),
    Action("clap", clap),
    Action("box", box),
    Action("bend_down", bend),
    Action("come_up", rise),
    Action("salute", to_face),
    Action("drink", to_face, held="cup"),
)


def perform(action: Action, frames: int, rng: np.random.Generator) -> Floats:
    """Return the joints of one clip.

    Args:
        frames: clip length.
        rng: draws the style, the build, the swaying and whether left and right are swapped.

    Returns:
        (frames, 17, 3) in metres.
    """
    style = Style(
        speed=rng.uniform(1.2, 2.6),
        phase=rng.uniform(),
        size=rng.uniform(0.7, 1.15),
        start=rng.uniform(0.2, 0.5),
        duration=rng.uniform(0.15, 0.3),
    )
    t = np.linspace(0, 1, frames)
    joints = action.move(t, style)
    joints = joints * rng.normal(1, 0.05, (1, 1, 3))
    sway = 0.025 * np.sin(2 * np.pi * (rng.uniform(0.5, 1.5) * t + rng.uniform()))
    joints[:, UPPER_BODY, 0] += sway[:, None]
    if rng.uniform() < 0.5:
        joints = mirror(joints)
    return joints


def mirror(joints: Floats) -> Floats:
    """Swap left and right: the left-handed do it the other way round."""
    order = [0, *(i + 1 if i % 2 else i - 1 for i in range(1, 17))]
    return joints[:, order] * [-1, 1, 1]


def _standing(t: Floats) -> Floats:
    return np.repeat(STANDING[None], len(t), axis=0)


def _path(x: Floats, y: Floats, z: Floats) -> Floats:
    return np.stack([x, y, z], axis=-1)


def _with_hands(joints: Floats, left: Floats | None = None, right: Floats | None = None) -> Floats:
    """Put the hands where they belong and bend the elbows to reach them."""
    for hand, target in ((LEFT_HAND, left), (RIGHT_HAND, right)):
        if target is not None:
            joints[:, hand - 2], joints[:, hand] = _reach(joints[:, hand - 4], target)
    return joints


def _reach(shoulder: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Return elbow and wrist of an arm that reaches for a target, elbow down and outwards."""
    way = target - shoulder
    far = np.linalg.norm(way, axis=-1, keepdims=True)
    distance = np.clip(far, 0.05, 0.99 * (UPPER_ARM + FOREARM))
    along = way / np.maximum(far, 1e-6)
    share = (UPPER_ARM**2 - FOREARM**2 + distance**2) / (2 * distance)
    side = np.sign(shoulder[:, :1]) * [0.5, 0, 0] + [0, -1.0, -0.2]
    side = side - np.sum(side * along, axis=-1, keepdims=True) * along
    side = side / np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-6)
    bulge = np.sqrt(np.maximum(UPPER_ARM**2 - share**2, 0))
    return shoulder + along * share + side * bulge, shoulder + along * distance
