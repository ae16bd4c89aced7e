"""EDSR (Lim et al. 2017) and its parts, which IPT's heads and tails share. Images are RGB in 0..255."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.restoration.degrade import upscale

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's channels, in units of white


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution with bias that keeps the size; kernel is odd."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class MeanShift(nn.Module):
    """x + sign * 255 MEAN on [B, 3, H, W]; sign -1 removes DIV2K's mean colour and +1 puts it back. Nothing is learned."""

    mean: Tensor

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.register_buffer("mean", sign * 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to the same shape."""
        return x + self.mean


class ResBlock(nn.Module):
    """x + res_scale * conv2(ReLU(conv1(x))) on [B, channels, H, W], without normalisation."""

    def __init__(self, channels: int, kernel: int = 3, res_scale: float = 1.0) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, kernel)
        self.conv2 = conv(channels, channels, kernel)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] to the same shape."""
        return x + self.res_scale * self.conv2(torch.relu(self.conv1(x)))


class Upsampler(nn.Sequential):
    """[B, channels, H, W] to [B, channels, H factor, W factor]: convolution and pixel shuffle, for factor 4 twice.

    Raises StageError for factors other than 1 (nothing), 2, 3 and 4.
    """

    def __init__(self, channels: int, factor: int) -> None:
        steps = {1: [], 2: [2], 3: [3], 4: [2, 2]}.get(factor)
        if steps is None:
            raise StageError(f"scale factor {factor}: expected 1, 2, 3 or 4")
        layers: list[nn.Module] = []
        for step in steps:
            layers += [conv(channels, step * step * channels), nn.PixelShuffle(step)]
        super().__init__(*layers)


class EDSR(nn.Module):
    """Enhanced deep residual network: head, residual blocks with a long skip, upsampler, last convolution.

    Args:
        channels: n; 256 in the paper, 64 in its baseline.
        blocks: B; 32 in the paper, 16 in its baseline.
        factor: Scale, 1 to 4.
        res_scale: Factor of each block's branch; 0.1 in the paper, 1 in its baseline.
        bicubic_skip: Add the bicubic enlargement of the input (not rounded), so that the net learns what it lacks.
        unit: Grey levels that the net computes with as 1; 1 in the paper.
    """

    def __init__(
        self, channels: int, blocks: int, factor: int, res_scale: float = 1.0, bicubic_skip: bool = False, unit: float = 1.0
    ) -> None:
        super().__init__()
        self.factor, self.bicubic_skip, self.unit = factor, bicubic_skip, unit
        self.sub_mean, self.add_mean = MeanShift(-1), MeanShift(1)
        self.head = conv(3, channels)
        self.body = nn.Sequential(*(ResBlock(channels, 3, res_scale) for _ in range(blocks)))
        self.body_end = conv(channels, channels)
        self.upsampler = Upsampler(channels, factor)
        self.last = conv(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 3, H factor, W factor]; neither rounded nor clipped."""
        features = self.head(self.sub_mean(x) / self.unit)
        features = features + self.body_end(self.body(features))
        made = self.last(self.upsampler(features)) * self.unit
        return made + upscale(x, self.factor) if self.bicubic_skip else self.add_mean(made)
