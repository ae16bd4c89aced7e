"""Images of any size through a net of one input size: overlapping tiles, their centres averaged (IPT, section 3.5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stages.lib.errors import StageError


def tiled(
    function: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    tile: int,
    stride: int,
    margin: int,
    factor: int = 1,
    batch: int = 64,
) -> Tensor:
    """Apply a function of tiles to an image.

    Args:
        function: [B, C, tile, tile] to [B, C', tile * factor, tile * factor].
        image: [C, H, W]; sides below `tile` are continued by reflection and cut off again.
        tile: Side of a tile in pixels of the image.
        stride: Pixels between two tiles; the last ones lie at the image's edge.
        margin: Pixels of a tile's sides that are dropped, except at the image's border.
        factor: By how much the function enlarges.
        batch: Tiles at a time.

    Returns:
        [C', H factor, W factor], the mean of all centres that cover a pixel.

    Raises:
        StageError: The centres would leave gaps.
    """
    if margin < 0 or not 1 <= stride <= tile - 2 * margin:
        raise StageError(f"tiles of {tile} with margin {margin} and stride {stride} leave gaps; lower the stride or the margin")
    height, width = image.shape[-2:]
    padded = reflected(image, max(height, tile), max(width, tile))
    places = [(y, x) for y in starts(padded.shape[-2], tile, stride) for x in starts(padded.shape[-1], tile, stride)]
    total, times = None, None
    for first in range(0, len(places), batch):
        part = places[first : first + batch]
        restored = function(torch.stack([padded[..., y : y + tile, x : x + tile] for y, x in part]))
        if total is None:
            shape = [side * factor for side in padded.shape[-2:]]
            total = torch.zeros(restored.shape[1], *shape, dtype=torch.float64, device=restored.device)
            times = torch.zeros(shape, dtype=torch.float64, device=restored.device)
        for (y, x), piece in zip(part, restored):
            y0, y1 = _kept(y, padded.shape[-2], tile, margin)
            x0, x1 = _kept(x, padded.shape[-1], tile, margin)
            into = (slice((y + y0) * factor, (y + y1) * factor), slice((x + x0) * factor, (x + x1) * factor))
            total[(slice(None), *into)] += piece[:, y0 * factor : y1 * factor, x0 * factor : x1 * factor]
            times[into] += 1
    return (total / times)[:, : height * factor, : width * factor].to(image.dtype)


def starts(length: int, tile: int, stride: int) -> list[int]:
    """First pixels of the tiles along a side: every stride, and one at the end."""
    return sorted({*range(0, length - tile + 1, stride), length - tile})


def reflected(x: Tensor, height: int, width: int) -> Tensor:
    """[..., H, W] continued below and to the right to [..., height, width] by mirroring at its edge, as often as needed."""
    for axis, wanted in ((-2, height), (-1, width)):
        count = x.shape[axis]
        period = max(1, 2 * count - 2)
        places = torch.arange(wanted, device=x.device) % period
        x = x.index_select(axis, torch.minimum(places, period - places)) if wanted > count else x
    return x


def _kept(start: int, length: int, tile: int, margin: int) -> tuple[int, int]:
    """The part of a tile that is used along one side: without margins, but up to the image's border."""
    return (0 if start == 0 else margin), (tile if start + tile == length else tile - margin)
