"""Building blocks in two and three dimensions: level block, scale transitions, fusion of all scales by a pyramid.

Maps are [B, C, H, W] or [B, C, D, H, W]; a `size` is their spatial shape. Every function takes the number of dimensions
from the net it builds, `nd`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP = 4  # channels of a group of GroupNorm
DILATIONS = {2: (1, 2, 4), 3: (1, 2)}
MODES = {2: "bilinear", 3: "trilinear"}
CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def norm(nd: int, channels: int, kind: str) -> nn.Module:
    """Affine normalisation: `batch`, or `group` for batches of fewer than four, whose statistics say little."""
    if kind == "batch":
        return BATCH_NORMS[nd](channels)
    return nn.GroupNorm(max(1, channels // GROUP), channels)


def cbr(nd: int, into: int, out: int, kernel: int, kind: str, dilation: int = 1) -> nn.Sequential:
    """Convolution without bias that keeps the size, normalisation, ReLU."""
    padding = dilation * (kernel // 2)
    convolution = CONVOLUTIONS[nd](into, out, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(convolution, norm(nd, out, kind), nn.ReLU(inplace=True))


def level_block(nd: int, into: int, out: int, kind: str) -> nn.Sequential:
    """Two convolutions of width three."""
    return nn.Sequential(cbr(nd, into, out, 3, kind), cbr(nd, out, out, 3, kind))


# --- resizing -------------------------------------------------------------------------------------


def pooled(x: Tensor, size: Sequence[int], how: str) -> Tensor:
    """x max- or mean-pooled to a size that divides its own; the windows of an adaptive pooling are then equal."""
    window = [have // want for have, want in zip(x.shape[2:], size, strict=True)]
    if all(one == 1 for one in window):
        return x
    flat = len(size) == 2
    if how == "max":
        return functional.max_pool2d(x, window) if flat else functional.max_pool3d(x, window)
    return functional.avg_pool2d(x, window) if flat else functional.avg_pool3d(x, window)


def grown(x: Tensor, size: Sequence[int]) -> Tensor:
    """x interpolated linearly to a larger size."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=list(size), mode=MODES[len(size)], align_corners=False)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """x at another level's size: max-pooled down or interpolated up."""
    return pooled(x, size, "max") if x.shape[-1] >= size[-1] else grown(x, size)


# --- transitions and fusion -----------------------------------------------------------------------


class Down(nn.Module):
    """Scale transition of the encoder: all finer maps, max- and mean-pooled to the next size, to its channels."""

    def __init__(self, nd: int, finer: Sequence[int], out: int, kind: str) -> None:
        super().__init__()
        self.mix = cbr(nd, 2 * sum(finer), out, 1, kind)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """[B, out, *size] of maps of all finer levels."""
        return self.mix(torch.cat([pooled(one, size, how) for one in maps for how in ("max", "mean")], 1))


class Up(nn.Module):
    """Scale transition of the decoder: all coarser maps interpolated, mixed, and joined with the encoder's fused map."""

    def __init__(self, nd: int, coarser: Sequence[int], out: int, kind: str) -> None:
        super().__init__()
        self.mix = cbr(nd, sum(coarser), out, 1, kind)
        self.block = level_block(nd, 2 * out, out, kind)

    def forward(self, maps: Sequence[Tensor], fused: Tensor) -> Tensor:
        """[B, out, ...] of the size of `fused`, the encoder's map of this level."""
        mixed = self.mix(torch.cat([grown(one, fused.shape[2:]) for one in maps], 1))
        return self.block(torch.cat([mixed, fused], 1))


class Pyramid(nn.Module):
    """Fusion of all levels' maps at one of them: convolutions of growing dilation beside their common input."""

    def __init__(self, nd: int, channels: Sequence[int], out: int, kind: str) -> None:
        super().__init__()
        self.reduce = cbr(nd, sum(channels), out, 1, kind)
        self.branches = nn.ModuleList(cbr(nd, out, out, 3, kind, dilation) for dilation in DILATIONS[nd])
        self.mix = cbr(nd, out * (1 + len(DILATIONS[nd])), out, 1, kind)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """[B, out, *size]."""
        common = self.reduce(torch.cat([resized(one, size) for one in maps], 1))
        return self.mix(torch.cat([common, *(branch(common) for branch in self.branches)], 1))


class Fusion(nn.Module):
    """Multi-scale fusion (MSF) between modules: one pyramid a level, each fed by the maps of all levels."""

    def __init__(self, nd: int, channels: Sequence[int], kind: str) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Pyramid(nd, channels, out, kind) for out in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level, of the shapes of `maps`."""
        return [level(maps, one.shape[2:]) for level, one in zip(self.levels, maps, strict=True)]
