"""The shared transformer body: encoder, and a decoder that starts from the encoder's output and is told the task.

All layers are pre-norm; neither stack ends with a norm. Shapes: tokens [B, N, d], a task's query [N, d].
"""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.papers.ipt.attention import Attention

if TYPE_CHECKING:
    from stages.papers.ipt.settings import Net


def feed_forward(width: int, hidden: int) -> nn.Sequential:
    """W2 relu(W1 x), with biases."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def norm(width: int, wanted: bool) -> nn.Module:
    """A LayerNorm, or nothing (option `no_norm` of the official code)."""
    return nn.LayerNorm(width) if wanted else nn.Identity()


class EncoderLayer(nn.Module):
    """s + MHA(LN s), then s + FFN(LN s)."""

    def __init__(self, width: int, heads: int, hidden: int, norms: bool) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(width, heads), feed_forward(width, hidden)
        self.norm1, self.norm2 = norm(width, norms), norm(width, norms)

    def forward(self, s: Tensor, position: Tensor | None) -> Tensor:
        """Tokens to tokens; `position` is added to queries and keys."""
        normed = self.norm1(s)
        asked = normed if position is None else normed + position
        s = s + self.attention(asked, asked, normed)
        return s + self.mlp(self.norm2(s))


class DecoderLayer(nn.Module):
    """s + SelfMHA(q = k = LN s + query, v = LN s), s + CrossMHA(q = LN s + query, memory), s + FFN(LN s)."""

    def __init__(self, width: int, heads: int, hidden: int, norms: bool) -> None:
        super().__init__()
        self.attention, self.cross = Attention(width, heads), Attention(width, heads)
        self.mlp = feed_forward(width, hidden)
        self.norm1, self.norm2, self.norm3 = norm(width, norms), norm(width, norms), norm(width, norms)

    def forward(self, s: Tensor, memory: Tensor, query: Tensor | None, position: Tensor | None) -> Tensor:
        """Tokens to tokens; `position` is added to the memory where it gives keys."""
        normed = self.norm1(s)
        asked = normed if query is None else normed + query
        s = s + self.attention(asked, asked, normed)
        normed = self.norm2(s)
        asked = normed if query is None else normed + query
        s = s + self.cross(asked, memory if position is None else memory + position, memory)
        return s + self.mlp(self.norm3(s))


class Body(nn.Module):
    """Feature maps [B, C, H, W] to feature maps of the same shape, through tokens of P x P pixels.

    Linear encoding and the last MLP are residual. Positions are learned, one row a token.
    """

    def __init__(self, net: "Net") -> None:
        super().__init__()
        width, hidden = net.width, net.hidden
        self.patch, self.side, self.every = net.patch_dim, net.image // net.patch_dim, net.positions == "every"
        self.position = None if net.positions == "none" else nn.Parameter(torch.randn(net.tokens, width))
        self.linear = nn.Linear(width, width) if net.mlp else None
        self.encoder = cloned(EncoderLayer(width, net.heads, hidden, net.norm), net.layers)
        self.decoder = cloned(DecoderLayer(width, net.heads, hidden, net.norm), net.layers)
        self.mlp = feed_forward(width, hidden) if net.mlp else None

    def forward(self, h: Tensor, query: Tensor | None) -> tuple[Tensor, Tensor]:
        """(features [B, C, H, W], the tokens [B, N, d] that they are folded from, which the contrastive loss takes)."""
        # Stride = kernel, so unfolding is a rearrangement; the order of channels is that of torch.nn.functional.unfold.
        z = nn.functional.pixel_unshuffle(h, self.patch).flatten(2).transpose(1, 2)
        if self.linear is not None:
            z = z + self.linear(z)
        if self.position is not None and not self.every:
            z = z + self.position
        position = self.position if self.every else None
        for layer in self.encoder:
            z = layer(z, position)
        memory = z
        for layer in self.decoder:
            z = layer(z, memory, query, position)
        if self.mlp is not None:
            z = z + self.mlp(z)
        folded = z.transpose(1, 2).unflatten(2, (self.side, self.side))
        return nn.functional.pixel_shuffle(folded, self.patch), z


def cloned(layer: nn.Module, count: int) -> nn.ModuleList:
    """`count` layers that start from the same weights, as the official code has them."""
    return nn.ModuleList([layer, *(copy.deepcopy(layer) for _ in range(count - 1))])
