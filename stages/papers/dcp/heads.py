"""Auxiliary classifiers at the pivots: F^p = AvgPool(ReLU(BN(O^p))), then a linear map theta (spec 3.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AuxHead(nn.Module):
    """BN - ReLU - global average pool - linear; features (N, n, h, z) -> logits (N, m). The bias starts at 0."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, m) of features (N, n, h, z)."""
        return self.linear(F.relu(self.norm(features)).mean(dim=(2, 3)))


class Supervised(nn.Module):
    """A net with its P auxiliary heads; `ends` are the pivots, the last one being the end of the net."""

    called = ("up_to",)

    def __init__(self, net: nn.Module, heads: Sequence[AuxHead], ends: Sequence[int]) -> None:
        super().__init__()
        self.net, self.heads, self.ends = net, nn.ModuleList(heads), list(ends)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of all P+1 losses, shallow to deep."""
        features, start, logits = self.net.stem(x), 0, []
        for p, end in enumerate(self.ends):
            features = self.net.segment(features, start, end)
            logits.append(self.classify(features, p))
            start = end
        return logits

    def up_to(self, x: Tensor, p: int) -> Tensor:
        """Logits of loss p alone: nothing behind its pivot is computed."""
        return self.classify(self.net.segment(self.net.stem(x), 0, self.ends[p]), p)

    def classify(self, features: Tensor, p: int) -> Tensor:
        """Logits of loss p from the features at its pivot; the last loss has the net's own head."""
        return self.net.head(features) if p == len(self.ends) - 1 else self.heads[p](features)


def attach(net: nn.Module, ends: Sequence[int], classes: int, shape: Sequence[int]) -> Supervised:
    """A net with fresh heads at the pivots; `shape` (C, H, W) of an image tells the widths at the pivots."""
    widths = _widths(net, ends, shape)
    heads = [AuxHead(width, classes) for width in widths[:-1]]
    device = next(net.parameters()).device
    return Supervised(net, heads, ends).to(device)


@torch.no_grad()
def _widths(net: nn.Module, ends: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Channels at each pivot, from one image of zeros in eval mode (training mode would move the BN statistics)."""
    was_training = net.training
    net.eval()
    features = net.stem(torch.zeros(1, *shape, device=next(net.parameters()).device))
    widths, start = [], 0
    for end in ends:
        features = net.segment(features, start, end)
        widths.append(features.shape[1])
        start = end
    net.train(was_training)
    return widths
