"""PCAN's losses: class hierarchy, and class prototypes with their calibration.

Shapes: N batch, K (fine) classes, Kc coarse classes, h width, S sample sets. The sample sets come
first in every stack: TP (moves the prototype), the kinds of false negatives, FP last.
"""

from typing import List, NamedTuple, Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

#: Weight of a sample's own doubt, and the temperature of the scores (paper, section 3.4).
ALPHA = 0.125
TEMPERATURE = 0.125


class SetSums(NamedTuple):
    """Features summed per sample set and class, and how many samples went in."""

    sums: Tensor  # (S, K, h)
    counts: Tensor  # (S, K)


class PrototypeBank(nn.Module):
    """A projection of features and one prototype a class.

    Args:
        in_channels: channels of the features.
        num_classes: K.
        width: h.
        momentum: share of the old prototype that an update keeps.
        seed: of the random unit vectors to begin with, the same on every rank.
    """

    #: Moved a little with every step, like a weight: a mean of weights takes their mean too.
    averaged_buffers = ("prototypes",)

    def __init__(
        self, in_channels: int, num_classes: int, width: int, momentum: float, seed: int
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.project = nn.Linear(in_channels, width)
        drawn = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("prototypes", functional.normalize(drawn, dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Project features (N, C) to (N, h), in at least single precision."""
        return at_least_float(self.project(features.to(self.project.weight.dtype)))

    def moved(self, true_positives: SetSums) -> Tensor:
        """Return the prototypes (K, h) after one step towards the mean of each class's TP.

        The gradient flows through the batch's means, never through the old prototypes.
        """
        sums, counts = true_positives.sums[0], true_positives.counts[0][:, None]
        old = at_least_float(self.prototypes.detach())
        mean = sums / counts.clamp(min=1)
        return torch.where(counts > 0, self.momentum * old + (1 - self.momentum) * mean, old)

    def similarity(self, projected: Tensor) -> Tensor:
        """Return the cosines (N, K) between projected features and the prototypes."""
        return unit(projected) @ unit(at_least_float(self.prototypes)).t()


def sum_by_class(
    features: Tensor, labels: Tensor, predicted: Tensor, sets: Sequence[Tensor], num_classes: int
) -> SetSums:
    """Sum features over TP and FN sets by true class, and over FP by predicted class.

    Args:
        features: projected, (N, h).
        labels: true classes (N,).
        predicted: predicted classes (N,).
        sets: boolean masks (N,) of TP and of each kind of FN.
    """
    true = one_hot(labels, num_classes, features)  # (N, K)
    guess = one_hot(predicted, num_classes, features)
    wrong = (predicted != labels)[:, None]
    members = torch.stack([true * mask[:, None] for mask in sets] + [guess * wrong])  # (S, N, K)
    return SetSums(members.transpose(1, 2) @ features, members.sum(dim=1))


def share_sums(parts: Sequence[SetSums]) -> List[SetSums]:
    """Add the sums of all ranks; alone, return them as they are.

    One collective for all parts. The own rank's share keeps its gradient, the others' are
    constants. The value is the reduced one itself, bit for bit the same on every rank.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return list(parts)
    tensors = [tensor for part in parts for tensor in part]
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    pieces = flat.split([tensor.numel() for tensor in tensors])
    shared = [piece.view_as(own) + (own - own.detach()) for piece, own in zip(pieces, tensors)]
    return [SetSums(*shared[i : i + 2]) for i in range(0, len(shared), 2)]


def calibration_loss(
    features: Tensor,
    logits: Tensor,
    labels: Tensor,
    prototypes: Tensor,
    ambiguous: SetSums,
    factors: Sequence[float],
) -> Tensor:
    """Pull samples to their class's prototype and its FN, push them from its FP.

    Args:
        features: projected, (N, h).
        logits: of the same classes, (N, K).
        labels: (N,).
        prototypes: (K, h), already moved by this batch.
        ambiguous: sums over the FN sets and, last, FP: S sets.
        factors: factor of each set's scores, S.

    Returns:
        The mean over samples of the summed cross-entropies of the S scores.

    Source: arXiv 2412.14719, equations 4-8.
    """
    features = unit(features)
    rows = torch.arange(len(labels), device=labels.device)
    doubt = ALPHA * (1 - logits.softmax(dim=1)[rows, labels])  # (N,)
    centres = unit(ambiguous.sums)[:, labels]  # (S, N, h)
    cosines = (centres * features).sum(dim=2)  # (S, N)
    signs = torch.ones_like(cosines)
    signs[-1] = -1
    present = (ambiguous.counts[:, labels] > 0).to(cosines.dtype)
    shift = (signs * cosines - 1) * doubt * present  # at the true class only
    similar = features @ unit(prototypes).t()  # (N, K)
    true = one_hot(labels, similar.shape[1], similar)
    scores = (similar + true * shift[..., None]) / TEMPERATURE  # (S, N, K)
    # One number at a time: a tensor of them would have to be copied to the device.
    scores = torch.cat([factor * score for factor, score in zip(factors, scores)])
    targets = labels.repeat(len(factors))
    total = functional.cross_entropy(scores, targets, reduction="sum")
    return total / len(labels)


def diversity(prototypes: Tensor) -> Tensor:
    """Return the Frobenius norm of the prototypes' cosine matrix (paper, equation 9)."""
    directions = unit(prototypes)
    return torch.linalg.norm(directions @ directions.t())


def one_hot(labels: Tensor, num_classes: int, like: Tensor) -> Tensor:
    """Return (N, K) ones and zeros of `like`'s type; torch's own checks values on the host."""
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).to(like.dtype)


def unit(vectors: Tensor) -> Tensor:
    """Scale the last dimension to length one; a zero vector stays zero."""
    return functional.normalize(vectors, dim=-1, eps=1e-12)


def at_least_float(tensor: Tensor) -> Tensor:
    """Widen half precision to single; leave single and double alone."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


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
