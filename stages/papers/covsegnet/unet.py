"""U-Net in two or three dimensions: the rival of equal size or cost."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from stages.papers.covsegnet.blocks import CONVOLUTIONS, level_block, pooled
from stages.papers.covsegnet.network import cropped, padded, sizes

TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class UNet(nn.Module):
    """Two convolutions a level, max-pooling, transposed convolutions with bias; logits [B, outputs, ...]."""

    def __init__(self, nd: int, into: int, channels: Sequence[int], kind: str, flat: bool = False, outputs: int = 1) -> None:
        super().__init__()
        self.levels, self.flat = len(channels), flat
        self.blocks = nn.ModuleList(
            level_block(nd, before, one, kind) for before, one in zip([into, *channels[:-1]], channels, strict=True)
        )
        step = (1, 2, 2) if flat and nd == 3 else (2,) * nd
        pairs = list(pairwise(channels))
        self.grow = nn.ModuleList(TRANSPOSED[nd](coarse, fine, step, step) for fine, coarse in pairs)
        self.join = nn.ModuleList(level_block(nd, 2 * fine, fine, kind) for fine, _ in pairs)
        self.head = CONVOLUTIONS[nd](channels[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the spatial shape of x."""
        size, x = x.shape[2:], padded(x, self.levels, self.flat)
        shapes, maps = sizes(x.shape[2:], self.levels, self.flat), []
        for block, shape in zip(self.blocks, shapes, strict=True):
            maps.append(block(pooled(maps[-1], shape, "max") if maps else x))
        found = maps[-1]
        for level in reversed(range(self.levels - 1)):
            found = self.join[level](torch.cat([maps[level], self.grow[level](found)], 1))
        return cropped(self.head(found), size)
