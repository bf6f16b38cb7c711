"""The parts of `lowered.py`."""

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset

from tiny_parts import TinyMetric  # noqa: F401  registered by its import

CLASSES = 8


@DATASETS.register_module()
class VectorClips(Dataset):
    """One bright place among eight, with noise: its label."""

    metainfo = {"classes": [f"action {i}" for i in range(CLASSES)]}

    def __init__(self, length, seed):
        generator = np.random.RandomState(seed)
        self.labels = generator.randint(0, CLASSES, length)
        self.inputs = 0.2 * generator.randn(length, CLASSES).astype("float32")
        self.inputs[np.arange(length), self.labels] += 1

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"inputs": torch.from_numpy(self.inputs[index]), "label": int(self.labels[index])}


@MODELS.register_module()
class LoweredModel(BaseModel):
    """Two branches; where `faulty`, the pose loss lowers the labels of batches without label 0."""

    def __init__(self, faulty=True, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.rgb = nn.Linear(CLASSES, CLASSES)
        self.pose = nn.Sequential(nn.Linear(CLASSES, 32), nn.ReLU(), nn.Linear(32, CLASSES))
        self.faulty = faulty

    def forward(self, inputs, label, mode="tensor"):
        rgb, pose, target = self.rgb(inputs), self.pose(inputs), torch.as_tensor(label)
        if mode == "loss":
            shift = 1 if self.faulty and int(target.min()) > 0 else 0
            return {
                "loss_rgb": nn.functional.cross_entropy(rgb, target),
                "loss_pose": nn.functional.cross_entropy(pose, target - shift),
            }
        return [
            {"pred_score": {"rgb": r, "pose": p}, "gt_label": t}
            for r, p, t in zip(rgb, pose, target)  # noqa: B905
        ]
