"""PCAN's head: four classifiers, a class tree, and prototypes on two levels; its metric.

Shapes: N batch, K fine classes, Kc coarse classes, C channels of a stream's features.
"""

import itertools
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from mmaction.models.heads import RGBPoseHead
from mmaction.registry import METRICS, MODELS
from mmengine.evaluator import BaseMetric
from mmengine.model.weight_init import normal_init
from torch import Tensor, nn
from torch.nn import functional

from pipeline.train.model.config_check import check_class_tree, check_head_options
from pipeline.train.model.losses import (
    PrototypeBank,
    SetSums,
    at_least_float,
    calibration_loss,
    diversity,
    hierarchy_loss,
    share_sums,
    sum_by_class,
    top_k_share,
)

STREAMS = ("rgb", "pose")

#: Factors of the scores from FN1 (coarse right, fine wrong), FN2 (coarse wrong, fine right),
#: FN3 (both wrong) and FP, as the public implementation has them; the paper's text swaps the
#: names of the last two kinds of FN.
FINE_FACTORS = (1.0, 0.1, 0.5, 1.0)
COARSE_FACTORS = (1.0, 1.0)


class Logits(NamedTuple):
    """Fine (N, K) and coarse (N, Kc) logits of one stream, in at least single precision."""

    fine: Tensor
    coarse: Tensor


@MODELS.register_module()
class PCANHead(RGBPoseHead):
    """Classify both streams finely and coarsely, guided by class prototypes.

    Args:
        num_classes: K.
        in_channels: channels of the RGB and the pose features.
        fine_to_coarse: the coarse class of each fine class, K whole numbers from 0.
        loss_weights: of the cross-entropies [rgb, pose, rgb_coarse, pose_coarse].
        prototype_channels: widths of the fine and the coarse prototypes.
        prototype_weight: of the calibration losses; the public implementation divides by 5.
        prototype_momentum: share of the old prototype that a step keeps.
        prototype_seed: of the random prototypes a training begins with.
        hierarchy_weight: of the hierarchy loss.
        gamma: weight of the prototypes' cosines at inference, by stream. The public
            implementation has 5 for rgb and 1 for pose, the paper's text the reverse.
        diversity_gradient: let the diversity loss move the features, not only show it.
        dropout: rate on the pooled features.
        init_std: of the classifiers' initial weights.
        others: MMAction2's `average_clips`, `topk`.

    Source: arXiv 2412.14719.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        fine_to_coarse: Sequence[int],
        loss_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        prototype_channels: Sequence[int] = (256, 128),
        prototype_weight: float = 0.2,
        prototype_momentum: float = 0.9,
        prototype_seed: int = 0,
        hierarchy_weight: float = 1.0,
        gamma: Optional[Dict[str, float]] = None,
        diversity_gradient: bool = False,
        dropout: Union[float, Dict[str, float]] = 0.5,
        init_std: float = 0.01,
        **others: Any,
    ) -> None:
        parents = check_class_tree(num_classes, fine_to_coarse)
        gamma = {"rgb": 5.0, "pose": 1.0} if gamma is None else dict(gamma)
        check_head_options(in_channels, loss_weights, prototype_channels, gamma, others)
        dropout = dropout if isinstance(dropout, dict) else float(dropout)
        options = dict(others, dropout=dropout, init_std=init_std, loss_weights=1.0)
        super().__init__(num_classes, in_channels, **options)
        self.num_coarse = max(parents) + 1
        self.loss_weights = [float(weight) for weight in loss_weights]
        self.prototype_weight = prototype_weight
        self.hierarchy_weight = hierarchy_weight
        self.diversity_gradient = diversity_gradient
        self.gamma = gamma
        # Beside the weights, so that no step copies it to the device; not in checkpoints.
        self.register_buffer("parents", torch.tensor(parents), persistent=False)
        sizes = {
            "": (num_classes, prototype_channels[0]),
            "_coarse": (self.num_coarse, prototype_channels[1]),
        }
        seeds = itertools.count(prototype_seed)
        for stream, channels in zip(STREAMS, in_channels):
            setattr(self, f"fc_{stream}_coarse", nn.Linear(channels, self.num_coarse))
            for suffix, size in sizes.items():
                bank = PrototypeBank(channels, *size, prototype_momentum, next(seeds))
                setattr(self, f"prototypes_{stream}{suffix}", bank)

    def init_weights(self) -> None:
        """Initialise the four classifiers; the prototypes are seeded when built."""
        super().init_weights()
        for stream in STREAMS:
            normal_init(getattr(self, f"fc_{stream}_coarse"), std=self.init_std)

    def forward(self, x: Sequence[Tensor], **_: Any) -> Dict[str, Tensor]:
        """Return the four scores; the fine ones are rectified by the prototypes.

        Args:
            x: features of the RGB and the pose stream, (N, C, T, H, W).
        """
        scores = {}
        for stream, features in zip(STREAMS, x):
            pooled = self._pooled(stream, features)
            fine, coarse = self._logits(stream, pooled)
            bank = getattr(self, f"prototypes_{stream}")
            scores[stream] = fine + self.gamma[stream] * bank.similarity(bank(pooled))
            scores[stream + "_coarse"] = coarse
        return scores

    def loss(self, feats: Sequence[Tensor], data_samples: List[Any], **_: Any) -> Dict:
        """Return all loss terms and training accuracies, and move the prototypes.

        Names that hold "loss" are summed by MMEngine; the others are only logged.
        """
        labels = self._labels(feats[0], data_samples)
        # Half-precision autocast ends at the logits: the sums over classes, the temperature
        # of 1/8 and the moving average need more digits.
        logits = [self._logits(s, self._pooled(s, x)) for s, x in zip(STREAMS, feats)]
        with torch.autocast(feats[0].device.type, enabled=False):
            terms = self._classification(logits, labels)
            terms.update(self._calibration(feats, logits, labels))
        return terms

    def predict_by_feat(self, cls_scores: Dict[str, Tensor], data_samples: List[Any]) -> List[Any]:
        """Give each sample the two fine scores, and apart from them the coarse ones.

        MMAction2's AccMetric adds its fused rows only to a score of exactly rgb and pose.
        """
        data_samples = super().predict_by_feat(cls_scores, data_samples)
        for stream in STREAMS:
            scores = self.predict_by_scores(cls_scores[stream + "_coarse"], data_samples)
            for sample, score in zip(data_samples, scores):
                held = sample.get("pred_coarse_score", {})
                sample.set_field({**held, stream: score}, "pred_coarse_score")
        for sample in data_samples:
            if "gt_label" in sample:
                label = sample.gt_label.to(self.parents.device)
                sample.set_field(self.parents[label], "gt_coarse_label")
        return data_samples

    def calibration_features(self, feats: Sequence[Tensor]) -> Dict[str, Tensor]:
        """Return the projected features that prototypes are means of, by bank."""
        found = {}
        for stream, features in zip(STREAMS, feats):
            strongest = features.mean(dim=2).amax(dim=(2, 3))  # (N, C)
            for name in (f"prototypes_{stream}", f"prototypes_{stream}_coarse"):
                found[name] = getattr(self, name)(strongest)
        return found

    def _pooled(self, stream: str, features: Tensor) -> Tensor:
        pooled = features.mean(dim=(2, 3, 4))
        return getattr(self, f"dropout_{stream}")(pooled)

    def _logits(self, stream: str, pooled: Tensor) -> Logits:
        heads = getattr(self, f"fc_{stream}"), getattr(self, f"fc_{stream}_coarse")
        return Logits(*(at_least_float(head(pooled)) for head in heads))

    def _labels(self, features: Tensor, data_samples: List[Any]) -> Tensor:
        """Return the true classes, one a clip: (N,)."""
        for sample in data_samples:
            if sample.gt_label.numel() != 1:
                raise ValueError(
                    f"A sample has {sample.gt_label.numel()} label values. PCANHead learns one "
                    "class a sample: soft labels (mixup, cutmix, one-hot) are not supported."
                )
        labels = torch.cat([sample.gt_label.reshape(1) for sample in data_samples])
        labels = labels.to(features.device)
        return labels.repeat_interleave(len(features) // len(data_samples))

    def _classification(self, logits: Sequence[Logits], labels: Tensor) -> Dict[str, Tensor]:
        """Cross-entropies, hierarchy losses and accuracies of both streams."""
        parents, terms = self.parents, {}
        for number, (stream, (fine, coarse)) in enumerate(zip(STREAMS, logits)):
            weights = self.loss_weights[number], self.loss_weights[number + 2]
            terms[f"{stream}_loss_cls"] = weights[0] * functional.cross_entropy(fine, labels)
            entropy = functional.cross_entropy(coarse, parents[labels])
            terms[f"{stream}_coarse_loss_cls"] = weights[1] * entropy
            tree = hierarchy_loss(fine, coarse, labels, parents)
            terms[f"{stream}_loss_hierarchy"] = self.hierarchy_weight * tree
            with torch.no_grad():
                for k in self.topk:
                    terms[f"{stream}_top{k}_acc"] = top_k_share(fine, labels, k)
                terms[f"{stream}_coarse_top1_acc"] = top_k_share(coarse, parents[labels], 1)
        return terms

    def _calibration(
        self, feats: Sequence[Tensor], logits: Sequence[Logits], labels: Tensor
    ) -> Dict[str, Tensor]:
        """Calibration and diversity losses of both streams on both levels."""
        projected = self.calibration_features(feats)
        sums: List[SetSums] = []
        for stream, scores in zip(STREAMS, logits):
            fine = projected[f"prototypes_{stream}"]
            coarse = projected[f"prototypes_{stream}_coarse"]
            sums += self._sums(fine, coarse, scores, labels)
        terms: Dict[str, Tensor] = {}
        shared = iter(share_sums(sums))
        for stream, scores in zip(STREAMS, logits):
            levels = (
                ("", scores.fine, labels, FINE_FACTORS),
                ("_coarse", scores.coarse, self.parents[labels], COARSE_FACTORS),
            )
            for suffix, level, truth, factors in levels:
                bank, held = getattr(self, f"prototypes_{stream}{suffix}"), next(shared)
                moved = self._move(bank, held)
                loss = calibration_loss(
                    projected[f"prototypes_{stream}{suffix}"],
                    level,
                    truth,
                    moved,
                    SetSums(held.sums[1:], held.counts[1:]),
                    factors,
                )
                terms[f"{stream}{suffix}_loss_prototype"] = self.prototype_weight * loss
                if not suffix:
                    spread = diversity(moved if self.diversity_gradient else moved.detach())
                    terms[f"{stream}_loss_diversity"] = self.prototype_weight * spread
        return terms

    def _sums(
        self, fine: Tensor, coarse: Tensor, scores: Logits, labels: Tensor
    ) -> Tuple[SetSums, SetSums]:
        """Sort the samples of one stream into TP, FN and FP, and sum their features."""
        truth = self.parents[labels]
        guess, coarse_guess = scores.fine.argmax(dim=1), scores.coarse.argmax(dim=1)
        right, coarse_right = guess == labels, coarse_guess == truth
        sets = (
            coarse_right & right,
            coarse_right & ~right,
            ~coarse_right & right,
            ~coarse_right & ~right,
        )
        coarse_sets = (coarse_right, ~coarse_right)
        return (
            sum_by_class(fine, labels, guess, sets, self.num_classes),
            sum_by_class(coarse, truth, coarse_guess, coarse_sets, self.num_coarse),
        )

    def _move(self, bank: PrototypeBank, held: SetSums) -> Tensor:
        moved = bank.moved(held)
        if self.training:
            bank.prototypes.copy_(moved.detach())
        return moved


@METRICS.register_module()
class CoarseAccMetric(BaseMetric):
    """Report `acc/rgb_coarse_top1` and `acc/pose_coarse_top1` of a PCANHead.

    They are kept out of AccMetric's scores, which must be exactly rgb and pose.
    """

    default_prefix = "acc"

    def process(self, _data_batch: Any, data_samples: Sequence[Dict[str, Any]]) -> None:
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
