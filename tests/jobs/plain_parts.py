"""A model without state of its own, for what a rehearsal finds in a training step."""

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset


@DATASETS.register_module()
class PlainDataset(Dataset):
    """Vectors with a label; `key` is what the label is called."""

    def __init__(self, length=32, features=8, label=1, key="label"):
        self.length, self.features, self.label, self.key = length, features, label, key

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {"inputs": torch.randn(self.features), self.key: self.label}


@MODELS.register_module()
class PlainModel(BaseModel):
    """Batch norm and a linear layer.

    Args:
        spare: has a layer that the loss does not depend on.
        frozen: nothing of it can be trained.
        early_gpu: asks for a GPU while it is built.
        late_gpu: asks for a GPU in its forward pass.
        in_numpy: computes the accuracy of a training step in NumPy.
    """

    def __init__(
        self,
        features=8,
        classes=2,
        spare=False,
        frozen=False,
        early_gpu=False,
        late_gpu=False,
        in_numpy=False,
    ):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(features), nn.Linear(features, classes)
        self.spare = nn.Linear(2, 2) if spare else None
        self.late_gpu, self.in_numpy = late_gpu, in_numpy
        if frozen:
            self.requires_grad_(False)
        if early_gpu:
            torch.zeros(1).cuda()

    def forward(self, inputs, label, mode="tensor"):
        scores = self.head(self.norm(inputs.cuda() if self.late_gpu else inputs))
        if mode == "loss":
            if self.in_numpy:
                scores.detach().numpy().argmax(1)
            return {"loss": nn.functional.cross_entropy(scores, torch.as_tensor(label))}
        return [{"right": int(s.argmax() == t)} for s, t in zip(scores, label)]


@METRICS.register_module()
class PlainMetric(BaseMetric):
    default_prefix = "acc"

    def process(self, _data_batch, data_samples):
        self.results += [sample["right"] for sample in data_samples]

    def compute_metrics(self, results):
        return {"top1": sum(results) / len(results)}
