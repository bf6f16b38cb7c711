"""Planes give back every pixel, or there are none."""

import platform

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.data.demo import make_demo
from pipeline.data.encode import LOSSLESS, encoder
from pipeline.data.video import frames
from pipeline.shared.planes import is_planes, to_planes, to_rgb
from pipeline.shared.stills import decode


@examples(100)
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    levels=st.sampled_from([(60, 190), (0, 256)]),
    colours=st.sampled_from([(128, 129), (100, 157), (0, 256)]),
)
def test_pictures_made_of_planes_are_given_back(seed, height, width, levels, colours):
    rng = np.random.default_rng(seed)
    size = 2 * height, 2 * width
    bright = rng.integers(*levels, size, np.uint8)
    halves = rng.integers(*colours, (height, 2 * width), np.uint8)
    picture = to_rgb(np.concatenate([bright, halves]), size)
    found = to_planes(picture)
    if found is None:  # what is cut off at black or white in all four pixels is lost
        assert levels == (0, 256) or colours == (0, 256)
        return
    assert is_planes(found, size) and np.array_equal(to_rgb(found, size), picture)


@examples(100)
@given(
    st.integers(0, 10**6),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([(16, 236), (15, 236), (16, 237), (0, 256)]),  # in 8 bits, and beyond
)
def test_colours_are_those_of_the_formula(seed, height, width, levels):
    rng = np.random.default_rng(seed)
    bright = rng.integers(*levels, (2 * height, 2 * width))
    u, v = rng.integers(0, 256, (2, height, width))
    planes = np.concatenate([bright, np.concatenate([u, v], axis=1)]).astype(np.uint8)
    y = (bright - 16) * 9539 >> 13
    red, green, blue = (
        share.repeat(2, axis=0).repeat(2, axis=1) + y
        for share in (
            (v - 128) * 13075 >> 13,
            ((u - 128) * -3209 >> 13) + ((v - 128) * -6660 >> 13),
            (u - 128) * 16525 >> 13,
        )
    )
    expected = np.clip(np.stack([red, green, blue], axis=-1), 0, 255)
    assert np.array_equal(to_rgb(planes, (2 * height, 2 * width)), expected)


@examples(100)
@given(st.integers(0, 10**6), st.integers(1, 24), st.integers(1, 24))
def test_other_pictures_have_none_or_are_given_back(seed, height, width):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = to_planes(picture)
    assert found is None or np.array_equal(to_rgb(found, (height, width)), picture)


@pytest.mark.parametrize("level", [0, 1, 16, 128, 254, 255])
def test_grey_pictures_have_planes(level):
    picture = np.full((6, 8, 3), level, np.uint8)
    found = to_planes(picture)
    if found is not None:  # not every level of RGB is one of the video's
        assert np.array_equal(to_rgb(found, (6, 8)), picture)
    assert level in (1, 128, 254) or found is not None


def test_planes_are_no_picture_of_their_own_size():
    assert is_planes(np.zeros((9, 8)), (6, 8))
    assert not is_planes(np.zeros((6, 8)), (6, 8))
    assert not is_planes(np.zeros((10, 8)), (7, 8))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another FFmpeg computes otherwise")
def test_the_planes_of_a_video_are_found_and_take_less(tmp_path):
    """Where this machine's decoder computes otherwise, stills are RGB: larger, and as exact."""
    make_demo(tmp_path / "demo", clips=2)
    video = next((tmp_path / "demo" / "videos").glob("*.mp4"))
    picture = next(frames(video))
    assert to_planes(picture) is not None
    still, odd = encoder(LOSSLESS)(picture), encoder("webp")(picture[1:, 1:])
    assert len(still) < 0.85 * len(odd)
    assert np.array_equal(decode(still, picture.shape[:2]), picture)
