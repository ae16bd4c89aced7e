"""The frame that RDN, CARN and IMDN share with EDSR: colours centred, a body of blocks, the bicubic image added if asked."""

from abc import abstractmethod

from torch import Tensor, nn

from stages.lib.restoration.blocks import MeanShift
from stages.lib.restoration.degrade import upscale


class Resolver(nn.Module):
    """Images [B, 3, H, W] in 0..255 to [B, 3, H factor, W factor] in the same unit, neither clipped nor rounded.

    `unit` are the grey levels that the net computes with as 1. Blocks, whose convolutions may be converted, are in `body`.
    """

    body: nn.Module

    def __init__(self, factor: int, bicubic_skip: bool, unit: float) -> None:
        super().__init__()
        self.factor, self.bicubic_skip, self.unit = factor, bicubic_skip, unit
        self.sub_mean, self.add_mean = MeanShift(-1), MeanShift(1)

    @abstractmethod
    def colours(self, x: Tensor) -> Tensor:
        """From centred colours [B, 3, H, W] to [B, 3, H factor, W factor]."""

    def forward(self, x: Tensor) -> Tensor:
        """The enlarged images."""
        made = self.colours(self.sub_mean(x) / self.unit) * self.unit
        return made + upscale(x, self.factor) if self.bicubic_skip else self.add_mean(made)
