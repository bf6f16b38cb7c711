"""Stills keep what they promise, whatever the picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.data.encode import CHECK_EVERY, FLOOR_DB, QUALITIES, decoded, encoder, psnr
from pipeline.data.video import VideoError


def picture(seed, height, width, contrast, colour):
    """Smooth to pure noise, grey to fully coloured."""
    rng = np.random.default_rng(seed)
    grey = rng.normal(128, contrast, (height, width, 1))
    return np.clip(grey + rng.normal(0, colour, (height, width, 3)), 0, 255).astype(np.uint8)


pictures = st.builds(
    picture,
    st.integers(0, 10**6),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([0, 1, 5, 30, 200]),
    st.sampled_from([0, 1, 20, 200]),
)


@examples(80)
@given(pictures)
def test_lossless_is_lossless(region):
    assert np.array_equal(decoded(encoder("webp")(region), region.shape[:2]), region)


@examples(80)
@given(pictures)
def test_jpeg_keeps_its_floor(region):
    assert psnr(decoded(encoder("jpeg")(region), region.shape[:2]), region) >= FLOOR_DB


def test_plain_pictures_stay_small_and_noise_raises_the_quality_for_good():
    encode = encoder("jpeg")
    plain, noise = picture(0, 64, 64, 0, 0), picture(0, 64, 64, 30, 20)
    first = len(encode(plain))
    loose = len(encode(noise))  # not looked at: only every eighth still is
    for _ in range(CHECK_EVERY - 2):
        encode(plain)
    assert len(encode(noise)) > 1.5 * loose
    assert len(encode(plain)) >= first
    assert encode._qualities[0] > QUALITIES[0]


def test_the_same_clip_gives_the_same_stills():
    clip = [picture(seed, 40, 50, 20, 10) for seed in range(10)]
    one, two = encoder("jpeg"), encoder("jpeg")
    assert [one(p) for p in clip] == [two(p) for p in clip]


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_an_impossible_region_is_reported(codec):
    with pytest.raises(VideoError, match="region of"):
        encoder(codec)(np.zeros((1, 70_000, 3), np.uint8))


def test_psnr_of_equal_pictures_is_infinite():
    assert psnr(picture(0, 8, 8, 5, 5), picture(0, 8, 8, 5, 5)) == np.inf
