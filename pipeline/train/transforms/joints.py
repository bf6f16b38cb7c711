"""Ship joints instead of heatmaps, and draw the maps on the training device.

The maps of a sample are 6.8 MB; sent through a loader's queue they cost more than making them
(6.5 ms in the training process), so that with them no loader is fast enough. The joints are 13 KB.
"""

from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
from mmaction.models.data_preprocessors import MultiModalDataPreprocessor
from mmaction.registry import MODELS, TRANSFORMS
from mmcv.transforms import BaseTransform

from pipeline.train.transforms.heatmaps import EDGE_DTYPE

EPS = 1e-4  # of GeneratePoseTarget: a joint with a lower score is not drawn


@TRANSFORMS.register_module()
class ShipJoints(BaseTransform):
    """Take the place of `GeneratePoseTarget`; the maps are drawn by `DrawJointsPreprocessor`.

    Args:
        scaling: of the maps against the pictures.
        use_score: whether a joint is as bright as its score.
    """

    def __init__(self, scaling: float = 1.0, use_score: bool = True) -> None:
        self.scaling = scaling
        self.use_score = use_score

    def transform(self, results: Dict) -> Dict:
        """Add `joints`, (clips, M, T, V, 3) float32: x and y in pixels of the maps, and score."""
        joints = results["keypoint"].astype(np.float32)[..., :2]  # (M, clips * T, V, 2)
        joints *= self.scaling
        if self.use_score and "keypoint_score" in results:
            score = results["keypoint_score"].astype(np.float32)
        else:
            score = np.ones(joints.shape[:-1], np.float32)
        packed = np.concatenate([joints, score[..., None]], axis=-1)
        persons, frames, count = packed.shape[:3]
        clips = results["num_clips"]
        packed = packed.reshape(persons, clips, frames // clips, count, 3)
        results["joints"] = np.ascontiguousarray(packed.swapaxes(0, 1))
        return results


@MODELS.register_module()
class DrawJointsPreprocessor(MultiModalDataPreprocessor):
    """`MultiModalDataPreprocessor` that draws `heatmap_imgs` from `joints` on its device.

    Args:
        preprocessors: as in the stock class, for `imgs` and `heatmap_imgs`.
        sigma: of the Gaussian, in pixels of the maps.
        scaling: of the maps against the pictures, as in `ShipJoints`.
    """

    def __init__(self, preprocessors: Dict, sigma: float, scaling: float) -> None:
        super().__init__(preprocessors)
        self.sigma = sigma
        self.scaling = scaling

    def forward(self, data: Dict, training: bool = False) -> Dict:
        """Draw the maps, then do as the stock class does."""
        data = self.cast_data(data)
        inputs = dict(data["inputs"])
        joints = inputs.pop("joints")
        sides = inputs["imgs"][0].shape[-2:]
        size = tuple(int(side * self.scaling + 0.5) for side in sides)
        inputs["heatmap_imgs"] = list(draw_joints(stack_persons(joints), size, self.sigma))
        return super().forward({**data, "inputs": inputs}, training)


def stack_persons(joints: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack samples (clips, M, T, V, 3) with different numbers of persons; none is drawn extra."""
    most = max(sample.shape[1] for sample in joints)
    padded: List[torch.Tensor] = []
    for sample in joints:
        clips, persons = sample.shape[:2]
        absent = sample.new_zeros((clips, most - persons) + tuple(sample.shape[2:]))
        padded.append(torch.cat([sample, absent], dim=1))
    return torch.stack(padded)


def draw_joints(joints: torch.Tensor, size: Tuple[int, ...], sigma: float) -> torch.Tensor:
    """Draw a Gaussian patch at every joint; where persons overlap, the larger value stays.

    Args:
        joints: (N, clips, M, T, V, 3): x, y in pixels of the maps, score.
        size: height and width of the maps.

    Returns:
        (N, clips, V, T, H, W) float32.
    """
    joints = joints.transpose(3, 4)  # (N, clips, M, V, T, 3)
    score = torch.where(joints[..., 2] < EPS, torch.zeros_like(joints[..., 2]), joints[..., 2])
    gx = _profile(joints[..., 0], size[1], sigma)  # (N, clips, M, V, T, W)
    gy = _profile(joints[..., 1], size[0], sigma) * score[..., None]
    maps = gy[:, :, 0, ..., None] * gx[:, :, 0, ..., None, :]
    for person in range(1, joints.shape[2]):
        other = gy[:, :, person, ..., None] * gx[:, :, person, ..., None, :]
        maps = torch.maximum(maps, other)
    return maps


def _profile(centre: torch.Tensor, length: int, sigma: float) -> torch.Tensor:
    """Return each joint's Gaussian along one axis, 0 outside the stock support."""
    index = torch.arange(length, device=centre.device, dtype=torch.float32)
    wide = torch.float64 if EDGE_DTYPE is np.float64 else torch.float32
    edge = centre.clamp(-1e6, 1e6).to(wide)[..., None]
    start = (edge - 3 * sigma).trunc()
    end = (edge + 3 * sigma).trunc() + 1
    value = torch.exp((index - centre[..., None]) ** 2 / (-2 * sigma**2))
    return value * ((index >= start) & (index < end))
