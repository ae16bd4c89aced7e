"""CovSegNet in two or three dimensions: encoder-decoder modules in series, all of which reach the output."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.papers.covsegnet.blocks import CONVOLUTIONS, Down, Fusion, Up, level_block


def sizes(size: Sequence[int], levels: int, flat: bool) -> list[list[int]]:
    """Spatial shape of every level; `flat` leaves the depth of volumes as it is."""
    still = 1 if flat and len(size) == 3 else 0
    return [[*size[:still], *(one >> level for one in size[still:])] for level in range(levels)]


def padded(x: Tensor, levels: int, flat: bool) -> Tensor:
    """x [B, C, ...] padded with zeros at the far ends until every halving is exact."""
    step, short = 2 ** (levels - 1), []
    for place, one in enumerate(x.shape[2:]):
        whole = 1 if flat and place == 0 and x.ndim == 5 else step
        short.append(-one % whole)
    return functional.pad(x, [value for one in reversed(short) for value in (0, one)]) if any(short) else x


def cropped(x: Tensor, size: Sequence[int]) -> Tensor:
    """The near corner of x [B, C, ...] of this spatial shape: undoes `padded`."""
    return x[(..., *(slice(0, one) for one in size))]


class Module(nn.Module):
    """One encoder-decoder with the fusion between its halves."""

    def __init__(self, nd: int, into: int, channels: Sequence[int], skips: bool, kind: str) -> None:
        super().__init__()
        more = channels if skips else [0] * len(channels)
        first = level_block(nd, into + more[0], channels[0], kind)
        rest = [level_block(nd, one + extra, one, kind) for one, extra in zip(channels[1:], more[1:], strict=True)]
        self.blocks = nn.ModuleList([first, *rest])
        self.downs = nn.ModuleList(Down(nd, channels[:i], channels[i], kind) for i in range(1, len(channels)))
        self.fusion = Fusion(nd, channels, kind)
        self.ups = nn.ModuleList(Up(nd, channels[i + 1 :], channels[i], kind) for i in range(len(channels) - 1))

    def encode(self, x: Tensor, skips: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Fused encoder maps of all levels, finest first."""
        maps: list[Tensor] = []
        for level, block in enumerate(self.blocks):
            here = x if level == 0 else self.downs[level - 1](maps, shapes[level])
            maps.append(block(torch.cat([here, skips[level]], 1) if skips else here))
        return self.fusion(maps)

    def forward(self, x: Tensor, skips: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Decoder maps of all levels, finest first; the coarsest is the encoder's."""
        fused = self.encode(x, skips, shapes)
        decoded = [fused[-1]]
        for level in reversed(range(len(self.ups))):
            decoded.insert(0, self.ups[level](decoded, fused[level]))
        return decoded


class CovSegNet(nn.Module):
    """`stages` modules in series; logits [B, outputs, ...] from the finest decoder maps of all of them.

    `flat` never pools the depth of a volume, for volumes of few slices. Sizes that do not halve often enough are padded.
    """

    def __init__(
        self, nd: int, into: int, channels: Sequence[int], stages: int, kind: str, flat: bool = False, outputs: int = 1
    ) -> None:
        super().__init__()
        self.levels, self.flat = len(channels), flat
        self.parts = nn.ModuleList(
            Module(nd, into if i == 0 else channels[0], channels, skips=i > 0, kind=kind) for i in range(stages)
        )
        self.between = nn.ModuleList(Fusion(nd, channels, kind) for _ in range(stages - 1))
        self.head = CONVOLUTIONS[nd](stages * channels[0], outputs, 1)

    def finest(self, x: Tensor) -> list[Tensor]:
        """The finest decoder map of every module, for an x that needs no padding."""
        shapes, skips, found = sizes(x.shape[2:], self.levels, self.flat), [], []
        for i, part in enumerate(self.parts):
            maps = part(x, skips, shapes)
            found.append(maps[0])
            if i < len(self.between):
                skips = self.between[i](maps)
                x = skips[0]  # the first level of the next module has it twice, as the published sizes count it
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the spatial shape of x."""
        found = self.finest(padded(x, self.levels, self.flat))
        return cropped(self.head(torch.cat(found, 1)), x.shape[2:])
