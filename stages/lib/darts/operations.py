"""The eight candidate operations of the DARTS search space, and the blocks that bring a cell's inputs to its width.

All take and give [N, channels, H, W]; with stride 2 the sides are halved, odd ones rounded up. Convolutions come in the
order ReLU - convolution - batch normalisation and have no bias (Liu et al. 2019, "DARTS", section 3.1.1 and its code).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError

# The order in which architecture parameters are laid out.
OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


class ReluConvBn(nn.Sequential):
    """ReLU, convolution, batch normalisation: [N, inputs, H, W] to [N, outputs, ceil(H / stride), ceil(W / stride)]."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, affine=affine),
        )


class SeparableStep(nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution, batch normalisation."""

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class FactorizedReduce(nn.Module):
    """Halves the sides without losing pixels: two 1x1 convolutions of stride 2, the second one pixel further, side by side."""

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, ceil(H / 2), ceil(W / 2)]."""
        x = nn.functional.relu(x)
        height, width = x.shape[2:]
        # Odd sides get a row of zeros, so that both halves have the same size.
        shifted = nn.functional.pad(x[:, :, 1:, 1:], (0, width % 2, 0, height % 2))
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(shifted)], dim=1))


class Zero(nn.Module):
    """No connection: zeros of the size that the other operations give."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Zeros [N, channels, ceil(H / stride), ceil(W / stride)]."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


def _pool(pool: nn.Module, channels: int, norm: bool) -> nn.Module:
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False)) if norm else pool


def _max_pool(channels: int, stride: int, affine: bool, norm: bool) -> nn.Module:
    return _pool(nn.MaxPool2d(3, stride, 1), channels, norm)


def _avg_pool(channels: int, stride: int, affine: bool, norm: bool) -> nn.Module:
    return _pool(nn.AvgPool2d(3, stride, 1, count_include_pad=False), channels, norm)


def _skip(channels: int, stride: int, affine: bool, norm: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


def _separable(kernel: int) -> Callable[[int, int, bool, bool], nn.Module]:
    return lambda channels, stride, affine, norm: nn.Sequential(
        SeparableStep(channels, kernel, stride, 1, affine), SeparableStep(channels, kernel, 1, 1, affine)
    )


def _dilated(kernel: int) -> Callable[[int, int, bool, bool], nn.Module]:
    return lambda channels, stride, affine, norm: SeparableStep(channels, kernel, stride, 2, affine)


_BUILDERS: dict[str, Callable[[int, int, bool, bool], nn.Module]] = {
    "none": lambda channels, stride, affine, norm: Zero(stride),
    "max_pool_3x3": _max_pool,
    "avg_pool_3x3": _avg_pool,
    "skip_connect": _skip,
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "dil_conv_3x3": _dilated(3),
    "dil_conv_5x5": _dilated(5),
}


def operation(name: str, channels: int, stride: int = 1, affine: bool = True, pool_norm: bool = False) -> nn.Module:
    """A freshly initialised candidate operation.

    Args:
        name: One of OPERATIONS.
        channels: Width, of input and output alike.
        stride: 1, or 2 on the edges of a reduction cell that come from the cell's inputs.
        affine: Whether batch normalisations learn scale and shift; they do not while searching.
        pool_norm: Whether a batch normalisation without scale and shift follows the pools, as while searching.

    Raises:
        StageError: For an unknown name.
    """
    if name not in _BUILDERS:
        raise StageError(f"operation {str(name)[:60]!r}: expected one of {', '.join(OPERATIONS)}")
    return _BUILDERS[name](channels, stride, affine, pool_norm)


def preprocess(inputs: int, channels: int, halve: bool, affine: bool = True) -> nn.Module:
    """Brings a cell's input to the cell's width; `halve` where this input is twice as large as the cell's other one."""
    return FactorizedReduce(inputs, channels, affine) if halve else ReluConvBn(inputs, channels, affine=affine)
