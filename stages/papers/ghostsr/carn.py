"""CARN (Ahn et al. 2018): cascading residual blocks, and one up-sampler for each scale in the same net."""

import torch
from torch import Tensor, nn

from stages.lib.restoration.blocks import conv
from stages.papers.ghostsr.resolver import Resolver

FACTORS = (2, 3, 4)
UNITS = 3  # residual units of a block


class Unit(nn.Module):
    """relu(x + conv(relu(conv(x))))."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(features, features), conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """[B, features, H, W] to the same."""
        return (x + self.conv2(self.conv1(x).relu())).relu()


class Cascade(nn.Module):
    """A row of parts, each fed by a 1x1 fusion of the input and the outputs of all parts before it."""

    def __init__(self, parts: list[nn.Module], features: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.fusions = nn.ModuleList(conv(features * (i + 2), features, 1) for i in range(len(parts)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, features, H, W] to the same."""
        maps = h = x
        for part, fusion in zip(self.parts, self.fusions, strict=True):
            maps = torch.cat([maps, part(h)], 1)
            h = fusion(maps).relu()
        return h


class CARN(Resolver):
    """Entry, a cascade of cascades, the up-sampler of the factor; those of the other factors are counted, too."""

    def __init__(self, features: int, blocks: int, factor: int, bicubic_skip: bool, unit: float) -> None:
        super().__init__(factor, bicubic_skip, unit)
        self.entry = conv(3, features)
        self.body = Cascade([Cascade([Unit(features) for _ in range(UNITS)], features) for _ in range(blocks)], features)
        self.upsamplers = nn.ModuleDict({str(one): nn.Sequential(*steps(features, one)) for one in FACTORS})
        self.exit = conv(features, 3)

    def colours(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 3, H factor, W factor]."""
        return self.exit(self.upsamplers[str(self.factor)](self.body(self.entry(x))))


def steps(features: int, factor: int) -> list[nn.Module]:
    """Convolution, ReLU and pixel shuffle; for factor 4 twice by 2."""
    made: list[nn.Module] = []
    for step in [2, 2] if factor == 4 else [factor]:
        made += [conv(features, features * step**2), nn.ReLU(), nn.PixelShuffle(step)]
    return made
