"""RDN, version B (Zhang et al. 2018): residual dense blocks whose outputs are all fused."""

import torch
from torch import Tensor, nn

from stages.lib.restoration.blocks import Upsampler, conv
from stages.papers.ghostsr.resolver import Resolver


class DenseBlock(nn.Module):
    """`convs` 3x3 convolutions, each seeing all maps before it, fused by a 1x1 convolution and added to the input."""

    def __init__(self, features: int, convs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(features * (i + 1), features) for i in range(convs))
        self.fusion = conv(features * (convs + 1), features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, features, H, W] to the same."""
        maps = x
        for one in self.convs:
            maps = torch.cat([maps, one(maps).relu()], 1)
        return x + self.fusion(maps)


class RDN(Resolver):
    """Two shallow convolutions, dense blocks, their fusion, the first convolution's maps added, an up-sampler."""

    def __init__(self, features: int, blocks: int, convs: int, factor: int, bicubic_skip: bool, unit: float) -> None:
        super().__init__(factor, bicubic_skip, unit)
        self.shallow, self.second = conv(3, features), conv(features, features)
        self.body = nn.ModuleList(DenseBlock(features, convs) for _ in range(blocks))
        self.fusion = nn.Sequential(conv(blocks * features, features, 1), conv(features, features))
        self.upsampler, self.last = Upsampler(features, factor), conv(features, 3)

    def colours(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 3, H factor, W factor]."""
        first = self.shallow(x)
        maps, h = [], self.second(first)
        for block in self.body:
            h = block(h)
            maps.append(h)
        return self.last(self.upsampler(first + self.fusion(torch.cat(maps, 1))))
