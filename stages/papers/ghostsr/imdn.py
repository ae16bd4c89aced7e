"""IMDN (Hui et al. 2019): blocks that split a quarter of the channels off after each convolution."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib.restoration.blocks import conv
from stages.papers.ghostsr.resolver import Resolver

SLOPE = 0.05  # of all leaky ReLUs
REDUCTION = 16  # features of the attention's narrow layer


class ContrastAttention(nn.Module):
    """Scales channels by a sigmoid of their contrast: standard deviation plus mean of each map."""

    def __init__(self, features: int) -> None:
        super().__init__()
        narrow = max(features // REDUCTION, 1)
        self.squeeze, self.excite = conv(features, narrow, 1), conv(narrow, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, features, H, W] to the same."""
        mean = x.mean((2, 3), keepdim=True)
        contrast = (x - mean).pow(2).mean((2, 3), keepdim=True).add(1e-12).sqrt() + mean  # the root has no slope at 0
        return x * self.excite(self.squeeze(contrast).relu()).sigmoid()


class DistillationBlock(nn.Module):
    """Three convolutions of which each keeps a quarter of its maps and hands on the rest; the last makes a quarter."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.kept = features // 4
        rest = features - self.kept
        sizes = [(features, features), (rest, features), (rest, features), (rest, self.kept)]
        self.convs = nn.ModuleList(conv(inputs, outputs) for inputs, outputs in sizes)
        self.attention = ContrastAttention(features)
        self.fusion = conv(features, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, features, H, W] to the same."""
        maps, h = [], x
        for one in self.convs[:-1]:
            y = functional.leaky_relu(one(h), SLOPE)
            maps.append(y[:, : self.kept])
            h = y[:, self.kept :]
        maps.append(self.convs[-1](h))
        return x + self.fusion(self.attention(torch.cat(maps, 1)))


class IMDN(Resolver):
    """Head, distillation blocks, their fusion, the head's maps added; the shuffle at the end gives colours directly."""

    def __init__(self, features: int, blocks: int, factor: int, bicubic_skip: bool, unit: float) -> None:
        super().__init__(factor, bicubic_skip, unit)
        self.head = conv(3, features)
        self.body = nn.ModuleList(DistillationBlock(features) for _ in range(blocks))
        self.fusion, self.closing = conv(features * blocks, features, 1), conv(features, features)
        self.upsampler = nn.Sequential(conv(features, 3 * factor**2), nn.PixelShuffle(factor))

    def colours(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 3, H factor, W factor]."""
        first = self.head(x)
        maps, h = [], first
        for block in self.body:
            h = block(h)
            maps.append(h)
        h = functional.leaky_relu(self.fusion(torch.cat(maps, 1)), SLOPE)
        return self.upsampler(first + self.closing(h))
