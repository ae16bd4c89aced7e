"""A ghost module for inference: a thin convolution whose maps are written, and written shifted, to one buffer."""

from torch import Tensor, nn

from stages.papers.ghostsr.ghost import GhostModule
from stages.papers.ghostsr.shift import LearnableShift


def overlap(offset: int, length: int) -> tuple[slice, slice]:
    """(where to write, where to read) along an axis so that out[i] = in[i + offset] wherever both exist."""
    first, last = max(0, -offset), max(0, min(length, length - offset))
    return slice(first, max(first, last)), slice(first + offset, max(first, last) + offset)


def write_shifted(out: Tensor, maps: Tensor, row: int, column: int) -> None:
    """out[h, w] = maps[h + row, w + column], 0 outside; both [B, C, H, W]. No multiplication, one pass."""
    height, width = out.shape[-2:]
    (to_rows, rows), (to_columns, columns) = overlap(row, height), overlap(column, width)
    out[..., to_rows, to_columns] = maps[..., rows, columns]
    out[..., : to_rows.start, :] = 0.0
    out[..., to_rows.stop :, :] = 0.0
    out[..., to_rows, : to_columns.start] = 0.0
    out[..., to_rows, to_columns.stop :] = 0.0


class SlicedGhost(nn.Module):
    """A ghost module whose shift has become slices; any other cheap operation stays as it is.

    Built from a trained ghost module, whose primary convolution it shares.
    """

    order: Tensor | None

    def __init__(self, module: GhostModule) -> None:
        super().__init__()
        self.intrinsic, self.ghosts, self.primary = module.intrinsic, module.ghosts, module.primary
        self.offsets: list[tuple[int, int]] = []
        self.cheap: nn.Module = nn.Identity()
        if isinstance(module.cheap, LearnableShift):
            self.offsets = module.cheap.offsets()
        else:
            self.cheap = module.cheap
        self.register_buffer("order", None if module.order is None else module.order.clone())

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_i, H, W] to [B, c_o, H', W']."""
        y = self.primary(x)
        if self.ghosts:
            out = y.new_empty(y.shape[0], self.intrinsic + self.ghosts, *y.shape[2:])
            out[:, : self.intrinsic] = y
            self.write_ghosts(out[:, self.intrinsic :], y)
            y = out
        return y if self.order is None else y.index_select(1, self.order)

    def write_ghosts(self, out: Tensor, y: Tensor) -> None:
        """Fill out [B, ghosts, H, W] from the intrinsic maps y, which are tiled if there are too few of them."""
        step = 1 if len(self.offsets) > 1 else self.intrinsic  # channels that share an offset and are written at once
        if not self.offsets:
            sources = y.repeat(1, -(-self.ghosts // self.intrinsic), 1, 1)[:, : self.ghosts]
            out.copy_(self.cheap(sources))
            return
        for first in range(0, self.ghosts, step):
            part = out[:, first : first + step]
            source = first % self.intrinsic
            write_shifted(part, y[:, source : source + part.shape[1]], *self.offsets[first % len(self.offsets)])
