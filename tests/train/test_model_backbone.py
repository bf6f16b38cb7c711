"""PCAN's backbone: RGBPoseConv3D itself without the blocks, and the blocks by the equations."""

import math
import warnings

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmaction.models.backbones import RGBPoseConv3D

    from pipeline.train.model import PCANBackbone
    from pipeline.train.model.cross_modal import CrossAttention, CrossModalBlock


def pathways(**changes):
    shared = dict(lateral=True, fusion_kernel=3, conv1_kernel=(1, 3, 3), with_pool2=False)
    rgb = dict(
        shared, num_stages=4, stage_blocks=(1, 1, 1, 1), base_channels=8, lateral_infl=1,
        lateral_activate=(0, 0, 1, 1), inflate=(0, 0, 1, 1),
    )  # fmt: skip
    pose = dict(
        shared, num_stages=3, stage_blocks=(1, 1, 1), base_channels=4, lateral_inv=True,
        lateral_infl=16, lateral_activate=(0, 1, 1), in_channels=17, out_indices=(2,),
        conv1_stride_s=1, conv1_stride_t=1, pool1_stride_s=1, pool1_stride_t=1,
        inflate=(0, 1, 1), spatial_strides=(2, 2, 2), temporal_strides=(1, 1, 1),
        dilations=(1, 1, 1),
    )  # fmt: skip
    pose.update(changes)
    return dict(speed_ratio=4, channel_ratio=4, rgb_pathway=rgb, pose_pathway=pose)


def build(**settings):
    torch.manual_seed(0)
    small = dict(rgb_frames=2, pose_frames=8, cross_channels=(8, 16), cross_heads=2)
    backbone = PCANBackbone(**{**small, **pathways(), **settings})
    backbone.init_weights()
    return backbone


def clip(rgb_frames=2, joints=17):
    generator = torch.Generator().manual_seed(1)
    rgb = torch.randn(2, 3, rgb_frames, 32, 32, generator=generator)
    return rgb, torch.rand(2, joints, 4 * rgb_frames, 8, 8, generator=generator)


def open_gates(backbone):
    for block in (backbone.cross2, backbone.cross3):
        block.rgb_out.reset_parameters()
        block.pose_out.reset_parameters()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("detach", [True, False])
def test_without_blocks_it_is_rgbposeconv3d_bit_for_bit(training, detach):
    others = dict(rgb_detach=detach, pose_detach=detach, rgb_drop_path=0.3, pose_drop_path=0.3)
    ours = build(cross_attention=False, **others).train(training)
    stock = RGBPoseConv3D(**pathways(), **others).train(training)
    stock.load_state_dict(ours.state_dict())
    for seed in range(4):  # covers dropped and kept laterals
        torch.manual_seed(seed)
        mine = ours(*clip())
        torch.manual_seed(seed)
        theirs = stock(*clip())
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_fresh_blocks_leave_rgbposeconv3d_as_it_is(training):
    """So a checkpoint without the blocks starts at its own accuracy."""
    ours = build(rgb_drop_path=0.3, pose_drop_path=0.3).train(training)
    stock = RGBPoseConv3D(**pathways(), rgb_drop_path=0.3, pose_drop_path=0.3).train(training)
    stock.load_state_dict(ours.state_dict(), strict=False)
    torch.manual_seed(3)
    mine = ours(*clip())
    torch.manual_seed(3)
    theirs = stock(*clip())
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_open_blocks_change_both_streams():
    backbone = build().eval()
    before = backbone(*clip())
    open_gates(backbone)
    after = backbone(*clip())
    assert all(not torch.allclose(a, b) for a, b in zip(before, after, strict=True))


def test_the_laterals_carry_the_streams_from_before_the_block():
    backbone = build().eval()
    seen = {}
    lateral, block = backbone.rgb_path.layer2_lateral, backbone.cross2
    lateral.register_forward_pre_hook(lambda _, inputs: seen.update(lateral=inputs[0]))
    block.register_forward_pre_hook(lambda _, inputs: seen.update(block=inputs))
    open_gates(backbone)
    backbone(*clip())
    assert seen["lateral"] is seen["block"][1]


def attend(layer, asking, asked, heads):
    """Multi-head attention as loops; sequences are (T, d) arrays."""

    def linear(module, row):
        return module.weight.detach().numpy() @ row + module.bias.detach().numpy()

    query = [linear(layer.query, row) for row in asking]
    key = [linear(layer.key, row) for row in asked]
    value = [linear(layer.value, row) for row in asked]
    size = asking.shape[1] // heads
    answers = []
    for t in range(len(asking)):
        joined = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = [query[t][part] @ key[s][part] / math.sqrt(size) for s in range(len(asked))]
            powers = [math.exp(score - max(scores)) for score in scores]
            joined.append(
                sum(p / sum(powers) * v[part] for p, v in zip(powers, value, strict=True))
            )
        answers.append(linear(layer.out, np.concatenate(joined)))
    return np.stack(answers)


def test_attention_equals_the_loops():
    torch.manual_seed(0)
    layer = CrossAttention(8, heads=2, dropout=0.0).double()
    asking, asked = torch.randn(2, 1, 3, 8).double()
    expected = attend(layer, asking[0].numpy(), asked[0].numpy(), 2)
    np.testing.assert_allclose(layer(asking, asked)[0].detach().numpy(), expected, atol=1e-12)


def test_block_equals_the_loops():
    torch.manual_seed(0)
    block = CrossModalBlock(6, 5, 8, heads=2, speed_ratio=4, dropout=0.0).double()
    rgb, pose = torch.randn(1, 6, 3, 2, 2).double(), torch.randn(1, 5, 12, 3, 3).double()
    weights = {name: value.numpy() for name, value in block.state_dict().items()}
    asking, asked = np.full((3, 8), -np.inf), np.full((3, 8), -np.inf)
    for t in range(3):
        for d in range(8):
            for h in range(2):
                for w in range(2):
                    value = weights["rgb_in.bias"][d]
                    for c in range(6):
                        value += (
                            weights["rgb_in.weight"][d, c, 0, 0, 0] * rgb[0, c, t, h, w].item()
                        )
                    asking[t, d] = max(asking[t, d], value)
            for h in range(3):
                for w in range(3):
                    value = weights["pose_in.bias"][d]
                    for c in range(5):
                        for r in range(4):
                            weight = weights["pose_in.weight"][d, c, r, 0, 0]
                            value += weight * pose[0, c, 4 * t + r, h, w].item()
                    asked[t, d] = max(asked[t, d], value)
    asking = attend(block.rgb_attention, asking, asked, 2)
    asked = attend(block.pose_attention, asked, asking, 2)
    new_rgb, new_pose = (found.detach().numpy() for found in block(rgb, pose))
    for t in range(3):
        gate = weights["rgb_out.weight"][:, :, 0, 0, 0] @ asking[t] + weights["rgb_out.bias"]
        expected = rgb[0, :, t].numpy() * (1 + gate)[:, None, None]
        np.testing.assert_allclose(new_rgb[0, :, t], expected, atol=1e-12)
        for r in range(4):
            weight = weights["pose_out.weight"][:, :, r, 0, 0]
            gate = asked[t] @ weight + weights["pose_out.bias"]
            expected = pose[0, :, 4 * t + r].numpy() * (1 + gate)[:, None, None]
            np.testing.assert_allclose(new_pose[0, :, 4 * t + r], expected, atol=1e-12)


def test_plan_sized_blocks_have_the_published_widths():
    backbone = PCANBackbone()
    assert backbone.out_channels == (2048, 512)
    assert backbone.cross2.rgb_in.weight.shape == (128, 512, 1, 1, 1)
    assert backbone.cross3.pose_out.weight.shape == (256, 256, 4, 1, 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(pose_frames=12), "2 RGB and 12 pose frames does not fit speed_ratio 4"),
        (dict(cross_channels=(8, 15)), "each a multiple of the heads"),
        (dict(pathways(temporal_strides=(1, 2, 1))), "pose_pathway shortens the clip"),
        (dict(pathways(num_stages=2, stage_blocks=(1, 1), lateral_activate=(0, 1),
                       out_indices=(1,), inflate=(0, 1), spatial_strides=(2, 2),
                       temporal_strides=(1, 1), dilations=(1, 1))), "needs 4 and 3"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_reported_when_the_model_is_built(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**settings)


def test_a_wrong_clip_or_skeleton_is_reported_by_its_numbers():
    with pytest.raises(ValueError, match="has 4 RGB and 16 pose frames, the model 2 and 8"):
        build()(*clip(rgb_frames=4))
    with pytest.raises(ValueError, match="heatmaps have 20 joints, the model 17"):
        build()(*clip(joints=20))
