"""The hierarchy loss and accuracies: pure functions of logits and labels.

Shapes: N batch, K fine classes, Kc coarse classes.
"""

import torch
from torch import Tensor
from torch.nn import functional


def hierarchy_loss(fine: Tensor, coarse: Tensor, labels: Tensor, parents: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the true leaf in the class tree.

    A legal state is one coarse class alone, or one fine class with its parent; a state's
    score is the sum of the sigmoids of its classes. Exactly one state holds the true fine
    class, so the ratio of sums in the paper is a softmax over the states.

    Args:
        fine: logits (N, K).
        coarse: logits (N, Kc).
        labels: true fine classes (N,).
        parents: coarse class of each fine class (K,).

    Source: arXiv 2412.14719, equations 1-2.
    """
    coarse_bits = coarse.sigmoid()
    states_fine = fine.sigmoid() + coarse_bits[:, parents]  # (N, K)
    states = torch.cat((coarse_bits, states_fine), dim=1)  # (N, Kc + K)
    return functional.cross_entropy(states, labels + coarse.shape[1])


def top_k_share(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return the share of samples whose true class is among the k best, on the device."""
    true = scores.gather(1, labels[:, None])
    return ((scores > true).sum(dim=1) < k).to(scores.dtype).mean()
