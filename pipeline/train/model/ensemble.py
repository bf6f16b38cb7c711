"""Several models as one, and the accuracy of scores at any ratio, for refined exports."""

import copy
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from mmaction.registry import METRICS, MODELS
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn

from pipeline.shared.fusion import fuse, guesses

#: Fields of a sample that hold scores: their means are what the joined model predicts.
SCORES = ("pred_score", "pred_scores", "pred_coarse_score")


@MODELS.register_module()
class ScoreEnsemble(BaseModel):
    """Average the scores that several recognizers give a clip.

    Each member has its own data preprocessor. It tests; its members are trained one by one.

    Args:
        members: configs of the models.
    """

    def __init__(self, members: Sequence[Dict[str, Any]], **_: Any) -> None:
        super().__init__()
        self.members = nn.ModuleList(MODELS.build(member) for member in members)

    def val_step(self, data: Any) -> List[Any]:
        """Return the samples of a batch with the mean scores of all members."""
        # A member changes what it is given: inputs are reshaped, samples get its scores.
        found = [member.val_step(copy.deepcopy(data)) for member in self.members]
        return [joined(list(samples)) for samples in zip(*found)]

    test_step = val_step

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "predict") -> List[Any]:
        """Predict a batch; an ensemble has no loss of its own."""
        if mode != "predict":
            raise NotImplementedError("An ensemble is tested, not trained: train its members.")
        return self.val_step({"inputs": inputs, "data_samples": data_samples})


def joined(samples: List[Any]) -> Any:
    """Return the first of several predictions of one clip, with the mean scores of all."""
    first = samples[0]
    for name in SCORES:
        if first.get(name) is None:
            continue
        first.set_field(mean([sample.get(name) for sample in samples]), name)
    return first


def mean(scores: List[Any]) -> Any:
    """Return the mean of scores that are tensors, or tensors by branch."""
    if isinstance(scores[0], dict):
        return {name: mean([one[name] for one in scores]) for name in scores[0]}
    if not torch.is_tensor(scores[0]):
        return mean([dict(one.items()) for one in scores])
    return torch.stack(list(scores)).mean(dim=0)


@METRICS.register_module()
class RatioAccMetric(BaseMetric):
    """Report `acc/refined_top1`: RGB and pose joined by a ratio.

    Args:
        rgb: share of RGB, 0 to 1.
        log: weigh logarithms of the scores.
    """

    default_prefix = "acc"

    def __init__(self, rgb: float = 0.5, log: bool = False, prefix: Optional[str] = None) -> None:
        super().__init__(prefix=prefix)
        self.rgb, self.log = rgb, log

    def process(self, _data_batch: Any, data_samples: Sequence[Dict[str, Any]]) -> None:
        """Keep the scores of each sample by branch."""
        for sample in data_samples:
            found = sample["pred_score"]
            branches = found if isinstance(found, dict) else {"score": found}
            arrays = {
                name: score.detach().cpu().numpy().astype(np.float64)
                for name, score in branches.items()
            }
            self.results.append((arrays, int(sample["gt_label"])))

    def compute_metrics(self, results: List[Any]) -> Dict[str, float]:
        """Return the share of right clips."""
        names = results[0][0]
        tables = {name: np.stack([arrays[name] for arrays, _ in results]) for name in names}
        labels = np.array([label for _, label in results])
        right = guesses(fuse(tables, self.rgb, self.log)) == labels
        return {"refined_top1": float(right.mean())}
