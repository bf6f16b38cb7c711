"""PCAN's backbone: MMAction2's RGBPoseConv3D with two cross-modal blocks."""

import copy
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from mmaction.models.backbones import RGBPoseConv3D
from mmaction.registry import MODELS
from torch import Tensor

from pipeline.shared.counted import counted
from pipeline.train.model.cross_modal import CrossModalBlock


@MODELS.register_module()
class PCANBackbone(RGBPoseConv3D):
    """RGBPoseConv3D whose streams re-weight each other before both lateral fusions.

    With `cross_attention=False` it is RGBPoseConv3D, number for number.

    Args:
        rgb_frames: RGB frames of a clip; the blocks attend over as many tokens.
        pose_frames: pose frames of a clip: `rgb_frames` times `speed_ratio`.
        cross_attention: whether to build the two blocks.
        cross_channels: hidden widths of the first and the second block.
        cross_heads: attention heads; must divide both widths.
        cross_dropout: rate on the attention weights.
        others: RGBPoseConv3D's own arguments.

    Source: arXiv 2412.14719 (cross-modal attention).
    """

    def __init__(
        self,
        rgb_frames: int = 8,
        pose_frames: int = 32,
        cross_attention: bool = True,
        cross_channels: Sequence[int] = (128, 256),
        cross_heads: int = 8,
        cross_dropout: float = 0.1,
        **others: Any,
    ) -> None:
        # RGBPoseConv3D writes into the pathway settings it is given.
        super().__init__(**copy.deepcopy(others))
        self.rgb_frames, self.pose_frames = rgb_frames, pose_frames
        self._check_stages()
        self.cross2: Optional[CrossModalBlock] = None
        self.cross3: Optional[CrossModalBlock] = None
        if not cross_attention:
            return
        self._check_frames()
        _check_widths(cross_channels, cross_heads)
        rgb, pose = _channels(self.rgb_path), _channels(self.pose_path)
        fixed = (cross_heads, self.speed_ratio, cross_dropout)
        self.cross2 = CrossModalBlock(rgb[1], pose[0], cross_channels[0], *fixed)
        self.cross3 = CrossModalBlock(rgb[2], pose[1], cross_channels[1], *fixed)

    @property
    def out_channels(self) -> Tuple[int, int]:
        """Channels of the RGB and pose features that the head receives."""
        return _channels(self.rgb_path)[-1], _channels(self.pose_path)[-1]

    def init_weights(self) -> None:
        """Initialise as RGBPoseConv3D does; the blocks begin as identities."""
        super().init_weights()
        for block in (self.cross2, self.cross3):
            if block is not None:
                block.start_as_identity()

    def forward(self, imgs: Tensor, heatmap_imgs: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the features of both streams.

        Args:
            imgs: (N, 3, rgb_frames, H, W).
            heatmap_imgs: (N, joints, pose_frames, H', W').
        """
        self._check_inputs(imgs, heatmap_imgs)
        if self.cross2 is None or self.cross3 is None:
            return super().forward(imgs, heatmap_imgs)
        rgb_path, pose_path = self.rgb_path, self.pose_path
        dropped = self._draw_dropped()
        rgb = rgb_path.layer1(rgb_path.maxpool(rgb_path.conv1(imgs)))
        pose = pose_path.maxpool(pose_path.conv1(heatmap_imgs))
        rgb, pose = rgb_path.layer2(rgb), pose_path.layer1(pose)
        rgb, pose = self._exchange(rgb, pose, self.cross2, 2, dropped)
        rgb, pose = rgb_path.layer3(rgb), pose_path.layer2(pose)
        rgb, pose = self._exchange(rgb, pose, self.cross3, 3, dropped)
        return rgb_path.layer4(rgb), pose_path.layer3(pose)

    def _draw_dropped(self) -> Tuple[bool, bool]:
        """Draw whether RGB loses what comes from pose in this step, and the reverse."""
        if not self.training:
            return False, False
        drawn = torch.rand(1), torch.rand(1)  # on the CPU, as RGBPoseConv3D draws them
        return bool(drawn[0] < self.rgb_drop_path), bool(drawn[1] < self.pose_drop_path)

    def _exchange(
        self,
        rgb: Tensor,
        pose: Tensor,
        block: CrossModalBlock,
        stage: int,
        dropped: Tuple[bool, bool],
    ) -> Tuple[Tensor, Tensor]:
        """Re-weight both streams and join to each the lateral features of the other.

        The laterals carry the streams as they were before the block.
        """
        rgb_new, pose_new = block(rgb, pose)
        to_rgb = getattr(self.rgb_path, f"layer{stage}_lateral", None)
        to_pose = getattr(self.pose_path, f"layer{stage - 1}_lateral", None)
        if to_rgb is not None:
            lateral = to_rgb(pose.detach() if self.rgb_detach else pose)
            lateral = torch.zeros_like(lateral) if dropped[0] else lateral
            rgb_new = torch.cat((rgb_new, lateral), dim=1)
        if to_pose is not None:
            lateral = to_pose(rgb.detach() if self.pose_detach else rgb)
            lateral = torch.zeros_like(lateral) if dropped[1] else lateral
            pose_new = torch.cat((pose_new, lateral), dim=1)
        return rgb_new, pose_new

    def _check_stages(self) -> None:
        stages = self.rgb_path.num_stages, self.pose_path.num_stages
        if stages != (4, 3):
            raise ValueError(
                f"The backbone has {stages[0]} RGB and {stages[1]} pose stages; RGBPoseConv3D "
                "needs 4 and 3. Correct rgb_pathway.num_stages and pose_pathway.num_stages."
            )

    def _check_frames(self) -> None:
        """A token is one RGB frame: both clips must reach the blocks at full length."""
        if self.rgb_frames < 1 or self.pose_frames != self.rgb_frames * self.speed_ratio:
            raise ValueError(
                f"A clip of {self.rgb_frames} RGB and {self.pose_frames} pose frames does not "
                f"fit speed_ratio {self.speed_ratio}: the cross-modal blocks need "
                f"{self.speed_ratio} pose frames for each RGB frame. Correct backbone.rgb_frames, "
                "backbone.pose_frames and the pipelines' clip_len."
            )
        for name, path in (("rgb", self.rgb_path), ("pose", self.pose_path)):
            strides = (path.conv1_stride_t, path.pool1_stride_t, *path.temporal_strides)
            if any(stride != 1 for stride in strides):
                raise ValueError(
                    f"{name}_pathway shortens the clip (temporal strides {strides}); the "
                    "cross-modal blocks need every frame. Set conv1_stride_t, pool1_stride_t "
                    "and temporal_strides to 1, or cross_attention=False."
                )

    def _check_inputs(self, imgs: Tensor, heatmap_imgs: Tensor) -> None:
        joints = self.pose_path.conv1.conv.in_channels
        if heatmap_imgs.shape[1] != joints:
            raise ValueError(
                f"The heatmaps have {counted(heatmap_imgs.shape[1], 'joint')}, the model "
                f"{joints}. Set backbone.pose_pathway.in_channels to the annotation's joints."
            )
        frames = imgs.shape[2], heatmap_imgs.shape[2]
        if self.cross2 is not None and frames != (self.rgb_frames, self.pose_frames):
            raise ValueError(
                f"The clip has {frames[0]} RGB and {frames[1]} pose frames, the model "
                f"{self.rgb_frames} and {self.pose_frames}. Make the pipelines' clip_len and "
                "backbone.rgb_frames, backbone.pose_frames equal."
            )


def _check_widths(widths: Sequence[int], heads: int) -> None:
    if len(widths) != 2 or heads < 1 or any(width < 1 or width % heads for width in widths):
        raise ValueError(
            f"cross_channels is {list(widths)} with cross_heads {heads}: two widths are needed, "
            "each a multiple of the heads."
        )


def _channels(path: Any) -> Dict[int, int]:
    """Output channels of each stage of a pathway, by stage index; -1 is the last one."""
    widths = [
        path.base_channels * 2**stage * path.block.expansion for stage in range(path.num_stages)
    ]
    return {**dict(enumerate(widths)), -1: widths[-1]}
