"""Heatmaps computed at once, in the loader and on the device: the stock class is the oracle."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmaction.datasets.transforms import GeneratePoseTarget

    from pipeline.train.transforms import PoseHeatmaps, ShipJoints
    from pipeline.train.transforms.joints import draw_joints, stack_persons


def sample(seed, persons=2, frames=4, size=64, missing=0.2):
    """A sample after the crop: joints in float64, some outside the picture, some missing."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-0.3 * size, 1.3 * size, (persons, frames, 17, 2))
    score = rng.uniform(0, 1, (persons, frames, 17)).astype(np.float32)
    gone = rng.uniform(size=score.shape) < missing
    joints[gone], score[gone] = 0, 0
    score[rng.uniform(size=score.shape) < 0.05] = 5e-5  # seen, but below the threshold
    return {"keypoint": joints, "keypoint_score": score, "img_shape": (size, size), "imgs": []}


def stock(results, **arguments):
    return GeneratePoseTarget(**arguments)(dict(results))["heatmap_imgs"]


def on_device(samples, size, sigma, scaling, use_score=True):
    ship = ShipJoints(scaling=scaling, use_score=use_score)
    joints = [torch.from_numpy(ship(dict(s, num_clips=1))["joints"]) for s in samples]
    maps = draw_joints(stack_persons(joints), (size, size), sigma)  # (N, 1, V, T, H, W)
    return maps[:, 0].permute(0, 2, 1, 3, 4).numpy()


arguments = st.fixed_dictionaries(
    {
        "sigma": st.sampled_from([0.4, 0.6, 0.7, 1.3, 2.0]),
        "scaling": st.sampled_from([0.25, 0.5, 1.0]),
        "use_score": st.booleans(),
    }
)


@examples(60)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([20, 64, 90]), arguments)
def test_maps_of_the_loader_equal_the_stock_maps(seed, persons, size, given_arguments):
    results = sample(seed, persons, size=size)
    ours = PoseHeatmaps(**given_arguments)(dict(results))["heatmap_imgs"]
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, stock(results, **given_arguments), rtol=0, atol=1e-6)


@examples(60)
@given(st.integers(0, 10**6), st.integers(1, 3), arguments)
def test_maps_of_the_device_equal_the_stock_maps(seed, persons, given_arguments):
    results = sample(seed, persons)
    sigma, scaling = given_arguments["sigma"], given_arguments["scaling"]
    size = int(64 * scaling + 0.5)
    ours = on_device([results], size, sigma, scaling, given_arguments["use_score"])
    np.testing.assert_allclose(ours[0], stock(results, **given_arguments), rtol=0, atol=1e-6)


def test_samples_with_one_and_two_persons_share_a_batch():
    samples = [sample(1, persons=1), sample(2, persons=2)]
    ours = on_device(samples, 16, 0.7, 0.25)
    for one, maps in zip(samples, ours, strict=True):
        np.testing.assert_allclose(maps, stock(one, sigma=0.7, scaling=0.25), rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", [0.0, 2.0999, 2.1, 2.1001, -2.1, -0.5, 15.4, 17.2, 1e9, -1e9])
def test_a_joint_on_the_edge_is_drawn_as_in_stock(place):
    results = sample(0, persons=1, frames=1, size=16)
    results["keypoint"][...], results["keypoint_score"][...] = place, 1
    if abs(place) > 1e6:  # stock overflows its integers only beyond these
        assert not PoseHeatmaps(sigma=0.7)(dict(results))["heatmap_imgs"].any()
        return
    expected = stock(results, sigma=0.7)
    np.testing.assert_allclose(
        PoseHeatmaps(sigma=0.7)(dict(results))["heatmap_imgs"], expected, rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(on_device([results], 16, 0.7, 1.0)[0], expected, rtol=0, atol=1e-6)


def test_limbs_and_doubled_maps_are_the_stock_ones():
    results = sample(3)
    for extra in ({"with_limb": True, "with_kp": False}, {"double": True}):
        ours = PoseHeatmaps(sigma=0.7, **extra)(dict(results))["heatmap_imgs"]
        np.testing.assert_allclose(ours, stock(results, sigma=0.7, **extra), atol=1e-6)


def test_joints_without_scores_are_drawn_in_full():
    results = sample(4)
    del results["keypoint_score"]
    ours = PoseHeatmaps(sigma=0.7)(dict(results))["heatmap_imgs"]
    np.testing.assert_allclose(ours, stock(results, sigma=0.7), rtol=0, atol=1e-6)


def test_ten_clips_are_shipped_clip_by_clip():
    results = {**sample(5, persons=2, frames=6), "num_clips": 3}
    joints = ShipJoints(scaling=0.25)(results)["joints"]
    assert joints.shape == (3, 2, 2, 17, 3)
    np.testing.assert_allclose(joints[1, 0, :, :, 0], results["keypoint"][0, 2:4, :, 0] / 4)
