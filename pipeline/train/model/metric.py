"""Accuracy of the coarse classes, beside MMAction2's own fine ones."""

from typing import Any, Dict, List, Sequence

from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric


@METRICS.register_module()
class CoarseAccMetric(BaseMetric):
    """Report `acc/rgb_coarse_top1` and `acc/pose_coarse_top1` of a PCANHead.

    They are kept out of AccMetric's scores, which must be exactly rgb and pose.
    """

    default_prefix = "acc"

    def process(self, data_batch: Any, data_samples: Sequence[Dict[str, Any]]) -> None:
        """Note for each sample and stream whether the best coarse class is the true one."""
        for sample in data_samples:
            truth = int(sample["gt_coarse_label"])
            scores = sample["pred_coarse_score"]
            self.results.append(
                {stream: int(score.argmax()) == truth for stream, score in scores.items()}
            )

    def compute_metrics(self, results: List[Dict[str, bool]]) -> Dict[str, float]:
        """Return the share of right samples by stream."""
        return {
            f"{stream}_coarse_top1": sum(result[stream] for result in results) / len(results)
            for stream in results[0]
        }
