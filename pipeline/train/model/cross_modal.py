"""The cross-modal block: each stream re-weighted over time by what the other one sees.

Shapes: N batch, T RGB frames (the tokens), r speed ratio (pose frames per RGB frame),
d hidden width, C channels.
"""

import math
from typing import Tuple

from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence over another of the same length.

    Args:
        width: channels of both sequences, divisible by `heads`.
        dropout: rate on the attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = 1.0 / math.sqrt(width // heads)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """Return `asking` answered by `asked`; all are (N, T, d)."""
        query = self._split(self.query(asking))
        key, value = self._split(self.key(asked)), self._split(self.value(asked))
        weights = (query @ key.transpose(-2, -1) * self.scale).softmax(dim=-1)  # (N, heads, T, T)
        mixed = self.dropout(weights) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, sequence: Tensor) -> Tensor:
        """(N, T, d) -> (N, heads, T, d / heads)."""
        return sequence.unflatten(2, (self.heads, -1)).transpose(1, 2)


class CrossModalBlock(nn.Module):
    """Re-weight RGB and pose features by attention between the two, one gate a frame.

    RGB asks pose first; pose then asks the RGB sequence that came of it.

    Args:
        rgb_channels: channels of the RGB features (N, C, T, H, W).
        pose_channels: channels of the pose features (N, C', r T, H', W').
        width: hidden width d.
        speed_ratio: r.
    """

    def __init__(
        self,
        rgb_channels: int,
        pose_channels: int,
        width: int,
        heads: int,
        speed_ratio: int,
        dropout: float,
    ) -> None:
        super().__init__()
        stretch = (speed_ratio, 1, 1)
        self.rgb_in = nn.Conv3d(rgb_channels, width, 1)
        self.pose_in = nn.Conv3d(pose_channels, width, stretch, stretch)
        self.rgb_attention = CrossAttention(width, heads, dropout)
        self.pose_attention = CrossAttention(width, heads, dropout)
        self.rgb_out = nn.Conv3d(width, rgb_channels, 1)
        self.pose_out = nn.ConvTranspose3d(width, pose_channels, stretch, stretch)

    def start_as_identity(self) -> None:
        """Close the gates, so that weights trained without the block keep their accuracy."""
        for out in (self.rgb_out, self.pose_out):
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)

    def forward(self, rgb: Tensor, pose: Tensor) -> Tuple[Tensor, Tensor]:
        """Return both streams, each of its own shape, re-weighted."""
        asking = _tokens(self.rgb_in(rgb))  # (N, T, d)
        asked = _tokens(self.pose_in(pose))  # (N, T, d)
        asking = self.rgb_attention(asking, asked)
        asked = self.pose_attention(asked, asking)
        rgb_gate = self.rgb_out(_volume(asking))  # (N, C, T, 1, 1)
        pose_gate = self.pose_out(_volume(asked))  # (N, C', r T, 1, 1)
        return rgb + rgb * rgb_gate, pose + pose * pose_gate


def _tokens(features: Tensor) -> Tensor:
    """(N, d, T, H, W) -> (N, T, d) by the maximum over space.

    Equal to an adaptive max-pool to (T, 1, 1), whose backward pass on CUDA is not
    deterministic.
    """
    return features.amax(dim=(3, 4)).transpose(1, 2)


def _volume(sequence: Tensor) -> Tensor:
    """(N, T, d) -> (N, d, T, 1, 1)."""
    return sequence.transpose(1, 2)[..., None, None]
