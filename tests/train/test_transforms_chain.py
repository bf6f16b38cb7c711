"""Any clip, any draw: a sample from a pack equals one from its pictures, by the stock classes."""

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.data.crop_region import Compact
from pipeline.data.encode import LOSSLESS, encoder
from pipeline.data.make import PackRecipe
from pipeline.shared.pack import source_fingerprint, write_pack

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmaction.datasets.transforms import MMDecode
    from mmaction.registry import TRANSFORMS
    from mmcv.transforms import Compose
    from mmengine.registry import DefaultScope

    import pipeline.train.transforms  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _scope():
    """Look names up where MMAction2 has them, whatever ran before in this process."""
    with DefaultScope.overwrite_default_scope("mmaction"):
        yield


CLIP_LEN = {"RGB": 8, "Pose": 32}
SIDES = {"left_kp": list(range(1, 17, 2)), "right_kp": list(range(2, 17, 2))}


class Pictures(MMDecode):
    """The stock decoder, over pictures that are made up as they are asked for."""

    def _get_video_reader(self, filename):
        return None

    def _decord_load_frames(self, container, frame_inds):
        return [picture(int(frame), self.size) for frame in frame_inds]


def picture(frame, size):
    """Noise of this frame alone: one pixel or frame beside is another picture."""
    return np.random.default_rng(frame).integers(0, 256, (*size, 3), np.uint8)


def made_up(seed, frames, persons, size, missing, spread, place):
    """A clip's annotation; people stand anywhere, also half outside, and joints are missing."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 0.5, (persons, frames, 1, 2)), axis=1)
    middle = np.array(place) * [size[1], size[0]] + rng.normal(0, 3, (persons, 1, 1, 2))
    joints = middle + walk + rng.normal(0, spread, (persons, frames, 17, 2))
    joints[rng.uniform(size=joints.shape[:3]) < missing] = 0
    score = rng.uniform(0, 1, joints.shape[:3]).astype(np.float16)
    return {
        "keypoint": joints.astype(np.float16), "keypoint_score": score, "total_frames": frames,
        "img_shape": size, "original_shape": size, "filename": "clip", "label": 0,
    }  # fmt: skip


def after(decode, compact, flip, test_mode):
    """The stock chain after the decoder, as the configs have it."""
    shape = [{"type": "Resize", "scale": (40, 40), "keep_ratio": False}]
    draw = [] if test_mode else [
        {"type": "RandomResizedCrop", "area_range": (0.56, 1.0)},
        {"type": "Resize", "scale": (32, 32), "keep_ratio": False},
        {"type": "Flip", "flip_ratio": flip, **SIDES},
    ]  # fmt: skip
    sampler = {"type": "MMUniformSampleFrames", "clip_len": CLIP_LEN, "test_mode": test_mode}
    steps = [sampler, decode, compact, *shape, *draw]
    steps += [{"type": "GeneratePoseTarget", "sigma": 0.7, "scaling": 0.25}]
    return Compose([TRANSFORMS.build(s) if isinstance(s, dict) else s for s in steps])


def drawn(chain, clip, seed):
    np.random.seed(seed)
    random.seed(seed)
    copied = {k: v.copy() if hasattr(v, "copy") else v for k, v in clip.items()}
    result = chain({**copied, "modality": "Pose", "start_index": 0})
    return result, (np.random.random(), random.random())


def pack_of(path, clip, frames, recipe):
    """Write the pack of a clip, with no more than the frames that are asked for."""
    size = clip["img_shape"]
    joints = np.nan_to_num(clip["keypoint"].astype(np.float32))
    box = left, top, right, bottom = recipe.box(joints, size)
    encode = encoder(LOSSLESS)
    stills = [(f, encode(picture(f, size)[top:bottom, left:right])) for f in frames]
    head = {"source": source_fingerprint(clip), "video_bytes": 0, "size": size, "box": box}
    write_pack(path / "clip.pack", head, stills)


@examples(120)
@given(
    seed=st.integers(0, 10**6),
    frames=st.one_of(st.integers(1, 31), st.integers(32, 63), st.integers(64, 400)),
    persons=st.integers(1, 3),
    size=st.sampled_from([(48, 64), (90, 80), (61, 97)]),
    missing=st.sampled_from([0.0, 0.2, 0.9, 1.0]),
    spread=st.sampled_from([0.5, 2, 12, 40]),  # the first: hulls under 10 px
    place=st.sampled_from([(0.5, 0.5), (0.0, 0.5), (1.0, 1.0), (0.5, 0.0)]),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    test_mode=st.booleans(),
)
@example(23, 1, 1, (48, 64), 0.9, 12, (0.5, 0.0), 0.0, False)  # all joints above the picture
def test_a_sample_from_a_pack_is_the_sample_from_the_pictures(
    tmp_path_factory, seed, frames, persons, size, missing, spread, place, flip, test_mode
):
    clip = made_up(seed, frames, persons, size, missing, spread, place)
    pictures = Pictures()
    pictures.size = size
    compact = {"type": "MMCompact", "hw_ratio": 1.0, "allow_imgpad": True}
    expected, random_after = drawn(after(pictures, compact, flip, test_mode), clip, seed)

    folder = tmp_path_factory.mktemp("pack")
    recipe = PackRecipe(LOSSLESS, CLIP_LEN, Compact(), fixed=test_mode)
    shown = sorted({int(f) for f in expected["RGB_inds"]})
    pack_of(folder, clip, shown, recipe)
    decode = {"type": "PackDecode", "packs": str(folder), "videos": ".", "pose_frames": 32}
    chain = after(decode, compact, flip, test_mode)
    ours, random_ours = drawn(chain, clip, seed)

    assert chain.transforms[1].fallbacks.total == 0
    assert np.array_equal(np.stack(ours["imgs"]), np.stack(expected["imgs"]))
    for key in ("keypoint", "heatmap_imgs"):
        assert np.array_equal(ours[key], expected[key])
    assert random_ours == random_after
    (Path(folder) / "clip.pack").unlink()
