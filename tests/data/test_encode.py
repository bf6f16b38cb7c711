"""Stills keep what they promise, whatever the picture."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fuzzing import examples
from pipeline.data import encode
from pipeline.data.encode import CHECK_EVERY, FLOOR_DB, JPEG, LOSSLESS, QUALITIES, encoder, psnr
from pipeline.data.video import VideoError
from pipeline.shared import stills
from pipeline.shared.planes import to_rgb
from pipeline.shared.stills import MOST_NUMBERS, decode, encode_planes

#: Of the standard library, and the one that is taken here.
INFLATERS = {one.__name__: one for one in (zlib, stills._zlib)}.values()


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
    assert np.array_equal(decode(encoder(LOSSLESS)(region), region.shape[:2]), region)


@examples(80)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0, 2, 9, 128]),  # differences: none, in pairs, beyond 7, of every size
)
@pytest.mark.parametrize("inflater", INFLATERS)
def test_planes_are_given_back_by_either_inflater(inflater, seed, height, width, spread):
    rng = np.random.default_rng(seed)
    size = 2 * height, 2 * width
    levels = rng.integers(128 - spread, 128 + max(1, spread), (3 * height, 2 * width))
    planes = levels.astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stills, "_zlib", inflater)
        assert np.array_equal(decode(encode_planes(planes), size), to_rgb(planes, size))


@pytest.mark.parametrize("inflater", INFLATERS)
def test_what_is_not_a_still_of_its_region_is_none(inflater, monkeypatch):
    monkeypatch.setattr(stills, "_zlib", inflater)
    still = encode_planes(np.random.default_rng(0).integers(0, 256, (9, 8), np.uint8))
    assert decode(still, (6, 8)) is not None
    for size in ((8, 8), (6, 6), (4, 12), (5, 8), (6, 7), (1, 3)):
        assert decode(still, size) is None, size
    for damaged in (still[:4], still[:-3], still[:4] + b"\xff" * 20, b"", b"no still"):
        assert decode(damaged, (6, 8)) is None, damaged


def test_lossless_stills_of_before_are_read():
    planes = np.random.default_rng(0).integers(60, 190, (9, 8), np.uint8)
    webp = io.BytesIO()
    Image.fromarray(planes).save(webp, "WEBP", lossless=True)
    assert np.array_equal(decode(webp.getvalue(), (6, 8)), to_rgb(planes, (6, 8)))


def test_planes_too_many_for_an_integral_image_are_kept_as_webp(monkeypatch):
    region = np.full((6, 8, 3), 128, np.uint8)  # of levels that planes have
    assert encoder(LOSSLESS)(region).startswith(stills._MAGIC)
    monkeypatch.setattr(encode, "MOST_NUMBERS", 71)
    still = encoder(LOSSLESS)(region)
    assert still.startswith(b"RIFF") and np.array_equal(decode(still, (6, 8)), region)
    with pytest.raises(ValueError, match=f"more than {MOST_NUMBERS:,}"):
        encode_planes(np.broadcast_to(np.uint8(0), (MOST_NUMBERS // 2 + 1, 2)))


@examples(80)
@given(pictures)
def test_jpeg_keeps_its_floor(region):
    assert psnr(decode(encoder(JPEG)(region), region.shape[:2]), region) >= FLOOR_DB


def test_plain_pictures_stay_small_and_noise_raises_the_quality_for_good():
    encode = encoder(JPEG)
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
    one, two = encoder(JPEG), encoder(JPEG)
    assert [one(p) for p in clip] == [two(p) for p in clip]


@pytest.mark.parametrize("codec", [JPEG, LOSSLESS])
def test_an_impossible_region_is_reported(codec):
    with pytest.raises(VideoError, match="region of"):
        encoder(codec)(np.zeros((1, 70_000, 3), np.uint8))


def test_psnr_of_equal_pictures_is_infinite():
    assert psnr(picture(0, 8, 8, 5, 5), picture(0, 8, 8, 5, 5)) == np.inf
