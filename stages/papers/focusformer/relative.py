"""Two-dimensional relative positions of keys and values (AutoFormer, after Shaw et al. and Wu et al.)."""

import functools
import math

import torch
from torch import Tensor, nn


@functools.cache
def indices(tokens: int, clip: int) -> tuple[Tensor, Tensor]:
    """Table rows for the vertical and horizontal distance of every pair of tokens, each int64 [N, N].

    Token 0 is the class token: all its pairs have row 0. Others: clip(delta, -clip, clip) + clip + 1.
    """
    side = int(math.sqrt(tokens - 1))
    place = torch.arange(tokens - 1, device="cpu")  # told, since a caller may be on the meta device and the result is kept

    def table(coordinate: Tensor) -> Tensor:
        delta = (coordinate[None, :] - coordinate[:, None]).clamp(-clip, clip) + clip + 1
        return nn.functional.pad(delta, (1, 0, 1, 0))

    return table(place // side), table(place % side)


class RelativePositions(nn.Module):
    """Learned tables for vertical and horizontal distances, each (2 clip + 2, head_dim), shared by all heads."""

    def __init__(self, clip: int, head_dim: int) -> None:
        super().__init__()
        self.clip = clip
        self.vertical = nn.Parameter(torch.empty(2 * clip + 2, head_dim))
        self.horizontal = nn.Parameter(torch.empty(2 * clip + 2, head_dim))

    def forward(self, tokens: int) -> Tensor:
        """R [N, N, head_dim]: the sum of the rows for both distances."""
        rows, columns = (index.to(self.vertical.device) for index in indices(tokens, self.clip))
        return nn.functional.embedding(rows, self.vertical) + nn.functional.embedding(columns, self.horizontal)


def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention with relative positions.

    Args:
        q, k, v: [B, heads, N, head_dim].
        keys, values: R^K and R^V, [N, N, head_dim], the same for all heads.

    Returns:
        [B, N, heads * head_dim]: softmax(scale (q k^T + q R^K)) (v + R^V).
    """
    batch, heads, tokens, width = q.shape
    by_query = (q * width**-0.5).permute(2, 0, 1, 3).reshape(tokens, batch * heads, width)
    logits = (by_query @ keys.transpose(1, 2)).view(tokens, batch, heads, tokens).permute(1, 2, 0, 3)
    weights = torch.softmax(logits + (q * width**-0.5) @ k.transpose(2, 3), dim=-1)
    shifted = weights.permute(2, 0, 1, 3).reshape(tokens, batch * heads, tokens) @ values
    moved = shifted.view(tokens, batch, heads, width).permute(1, 0, 2, 3)
    return (weights @ v).transpose(1, 2).reshape(batch, tokens, heads * width) + moved.reshape(batch, tokens, heads * width)
