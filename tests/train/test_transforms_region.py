"""The stored region holds whatever the stock sampler and cut can draw, for any clip."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.data.crop_region import Compact, segments, superset, validation_frames

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mmaction.datasets.transforms import MMCompact, MMUniformSampleFrames

LENGTHS = {"RGB": 8, "Pose": 32}
COMPACTS = [
    Compact(),
    Compact(hw_ratio=None),
    Compact(allow_imgpad=False),
    Compact(padding=0.1),
]


def sampler(**more):
    return MMUniformSampleFrames(clip_len=LENGTHS, num_clips=1, **more)


def draw(frames, step):
    return step({"total_frames": frames, "modality": "Pose"})


def track(seed, frames, persons, size, missing, spread):
    """Joints that wander, leave the picture, and are missing by joint, frame and person."""
    rng = np.random.default_rng(seed)
    height, width = size
    walk = np.cumsum(rng.normal(0, 2, (persons, frames, 1, 2)), axis=1)
    middle = rng.uniform(-0.3, 1.3, (persons, 1, 1, 2)) * [width, height]
    joints = middle + walk + rng.normal(0, spread, (persons, frames, 17, 2))
    joints[rng.uniform(size=joints.shape[:3]) < missing] = 0
    joints[rng.uniform(size=joints.shape[:2]) < missing / 2] = 0
    return joints.astype(np.float16).astype(np.float32)


def cut(joints, size, compact):
    """The stock box, clipped to the picture: that much of the picture is asked for.

    Without padding it is a slice as it stands: a negative end counts from the other side.
    """
    step = MMCompact(compact.padding, compact.threshold, compact.hw_ratio, compact.allow_imgpad)
    left, top, right, bottom = step._get_box(joints, size)
    if not compact.allow_imgpad:
        (left, right, _), (top, bottom, _) = (
            slice(*ends).indices(side)
            for ends, side in zip(((left, right), (top, bottom)), size[::-1], strict=True)
        )
    return max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])


def inside(inner, outer):
    empty = inner[0] >= inner[2] or inner[1] >= inner[3]
    return empty or (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and inner[2] <= outer[2]
        and inner[3] <= outer[3]
    )


#: The sampler's three rules, by clip length.
REGIMES = {"wrapped": (1, 31), "stepped": (32, 63), "in parts": (64, 400)}


@pytest.mark.parametrize("regime", REGIMES)
@examples(300)
@given(data=st.data())
def test_no_drawn_box_leaves_the_region(regime, data):
    seed = data.draw(st.integers(0, 10**6), "seed")
    frames = data.draw(st.integers(*REGIMES[regime]), "frames")
    size = data.draw(st.sampled_from([(120, 160), (540, 960), (1080, 1920)]), "size")
    compact = data.draw(st.sampled_from(COMPACTS), "compact")
    joints = track(
        seed,
        frames,
        data.draw(st.integers(1, 3), "persons"),
        size,
        missing=data.draw(st.sampled_from([0.0, 0.1, 0.6, 0.98]), "missing"),
        spread=data.draw(st.sampled_from([1, 4, 30, 200]), "spread"),
    )
    region = superset(joints, size, segments(frames, 32), compact)
    np.random.seed(seed)
    step = sampler()
    for _ in range(7):  # 2,100 draws in each regime
        drawn = joints[:, draw(frames, step)["Pose_inds"]]
        assert inside(cut(drawn, size, compact), region)


@pytest.mark.parametrize("frames", [1, 7, 31, 32, 33, 50, 63, 64, 65, 103, 300, 400])
def test_every_draw_has_a_frame_of_each_segment(frames):
    parts = segments(frames, 32)
    np.random.seed(0)
    step = sampler()
    seen = [set() for _ in parts]
    for _ in range(200):
        inds = draw(frames, step)["Pose_inds"]
        for part, (first, last) in zip(seen, parts, strict=True):
            of_part = {int(i) for i in inds if first <= i <= last}
            assert of_part
            part |= of_part
    # The segments are no larger than need be: all of each is drawn sooner or later.
    assert all(part == set(range(a, b + 1)) for part, (a, b) in zip(seen, parts, strict=True))


@pytest.mark.parametrize("frames", [*range(1, 70), 103, 300])
def test_validation_shows_the_frames_we_store(frames):
    np.random.seed(frames)
    shown = draw(frames, sampler(test_mode=True))
    for name, length in LENGTHS.items():
        assert np.array_equal(shown[f"{name}_inds"], validation_frames(frames, length))


def test_the_region_is_little_larger_than_what_is_drawn():
    joints = track(seed=3, frames=103, persons=2, size=(1080, 1920), missing=0, spread=60)
    region = superset(joints, (1080, 1920), segments(103, 32), Compact())
    np.random.seed(0)
    step = sampler()
    boxes = [
        cut(joints[:, draw(103, step)["Pose_inds"]], (1080, 1920), Compact()) for _ in range(50)
    ]
    drawn = np.mean([(b[2] - b[0]) * (b[3] - b[1]) for b in boxes])
    assert (region[2] - region[0]) * (region[3] - region[1]) < 1.35 * drawn


def test_a_hull_that_may_be_small_keeps_the_whole_picture():
    joints = np.full((1, 50, 17, 2), 40, np.float32)
    joints[0, 10, 0] = 400  # one frame alone makes the hull large, and it may not be drawn
    assert superset(joints, (540, 960), segments(50, 32), Compact()) == (0, 0, 960, 540)


def test_a_clip_without_joints_keeps_the_whole_picture():
    joints = np.zeros((1, 50, 17, 2), np.float32)
    assert superset(joints, (54, 96), segments(50, 32), Compact()) == (0, 0, 96, 54)
