"""The ghost module: intrinsic maps by a convolution, ghost maps from them by a cheap operation."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.papers.ghostsr.shift import LearnableShift

CHEAP = ("shift", "depthwise")


@dataclass(frozen=True)
class GhostOptions:
    """What all ghost modules of a net have alike."""

    ratio: float = 0.5  # share of intrinsic maps, in (0, 1]
    cheap: str = "shift"  # shift, or depthwise: a 3x3 depth-wise convolution as in GhostNet
    radius: int = 1  # farthest offset
    estimator: str = "official"
    logits: str = "official"
    per_channel: bool = False  # an offset for each ghost channel instead of one for the layer


def intrinsic_count(channels: int, ratio: float) -> int:
    """ceil(ratio * channels). Raises StageError for a ratio outside (0, 1]."""
    if not 0.0 < ratio <= 1.0:
        raise StageError(f"ratio={ratio}: expected a share of intrinsic maps above 0 and up to 1")
    return math.ceil(ratio * channels - 1e-9)


class GhostModule(nn.Module):
    """In place of a convolution: c_int = ceil(ratio c_o) maps by a thinner one, c_o - c_int from those by a cheap operation.

    Intrinsic maps come first and ghosts second; where a ratio below 1/2 gives more ghosts than intrinsic maps, these are
    tiled. `order` [c_o] holds for each output channel its place in that concatenation, so that a net which inherits weights
    keeps the channel order of the net it inherits from; the identity unless set, None where the next convolution has its
    inputs in the order of the concatenation. A gather costs no multiply-add.
    """

    order: Tensor | None

    def __init__(self, conv: nn.Conv2d, options: GhostOptions) -> None:
        super().__init__()
        if conv.groups != 1 or conv.padding_mode != "zeros":
            raise StageError(f"a convolution of {conv.groups} groups cannot become a ghost module; expected a plain one")
        if options.cheap not in CHEAP:
            raise StageError(f"cheap={options.cheap}: expected one of {', '.join(CHEAP)}")
        outputs = conv.out_channels
        self.intrinsic = intrinsic_count(outputs, options.ratio)
        self.ghosts = outputs - self.intrinsic
        self.primary = nn.Conv2d(
            conv.in_channels, self.intrinsic, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None
        )
        self.cheap: nn.Module = nn.Identity()
        if self.ghosts and options.cheap == "shift":
            groups = self.ghosts if options.per_channel else 1
            self.cheap = LearnableShift(options.radius, options.estimator, options.logits, groups)
        elif self.ghosts:
            side = 2 * options.radius + 1
            self.cheap = nn.Conv2d(self.ghosts, self.ghosts, side, padding=options.radius, groups=self.ghosts, bias=False)
        self.register_buffer("order", torch.arange(outputs))

    def sources(self, y: Tensor) -> Tensor:
        """The maps [B, ghosts, H, W] that ghosts are made from: the first intrinsic ones, tiled if there are too few."""
        if self.ghosts <= self.intrinsic:
            return y[:, : self.ghosts]
        return y.repeat(1, -(-self.ghosts // self.intrinsic), 1, 1)[:, : self.ghosts]

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_i, H, W] to [B, c_o, H', W'], in the order of the convolution that this module replaces."""
        y = self.primary(x)
        if self.ghosts:
            y = torch.cat([y, self.cheap(self.sources(y))], 1)
        return y if self.order is None else y.index_select(1, self.order)
