"""The extractor: stem, units of pointwise, multi-kernel depthwise and pointwise convolutions, a feature (section 3.3)."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.papers.har_multistage.settings import Net

CONV = {1: nn.Conv1d, 2: nn.Conv2d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
POOL = {1: F.max_pool1d, 2: F.max_pool2d}


def convolution(dims: int, inputs: int, outputs: int, kernel: int, relu: bool = True, groups: int = 1) -> nn.Sequential:
    """Convolution without bias and with same padding, normalisation and, if asked, ReLU."""
    conv = CONV[dims](inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, NORM[dims](outputs), *([nn.ReLU()] if relu else []))


class Unit(nn.Module):
    """x + pointwise(depthwise of several kernels(pointwise(x))), halved by max pooling."""

    def __init__(self, dims: int, inputs: int, outputs: int, kernels: list[int]) -> None:
        super().__init__()
        self.dims = dims
        self.enter = convolution(dims, inputs, outputs, 1)
        self.depthwise = nn.ModuleList(convolution(dims, outputs, outputs, size, groups=outputs) for size in kernels)
        self.leave = convolution(dims, len(kernels) * outputs, outputs, 1, relu=False)
        self.shortcut = nn.Identity() if inputs == outputs else convolution(dims, inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, ...] to [N, outputs, ... // 2]."""
        entered = self.enter(x)
        y = self.leave(torch.cat([conv(entered) for conv in self.depthwise], dim=1))
        return POOL[self.dims](F.relu(y + self.shortcut(x)), 2)


class Extractor(nn.Module):
    """One transformed space [N, C, T] or [N, C, M, M] to features [N, d]."""

    def __init__(self, shape: tuple[int, ...], net: Net) -> None:
        super().__init__()
        check_size(shape, net)
        dims, widths = len(shape) - 1, [net.stem, *net.widths]
        self.shape, self.dims = tuple(shape), dims
        self.stem = convolution(dims, shape[0], net.stem, net.stem_kernel_1d if dims == 1 else net.stem_kernel_2d)
        self.units = nn.Sequential(*(Unit(dims, *pair, list(net.kernels)) for pair in itertools.pairwise(widths)))
        self.feature = nn.Linear(widths[-1], net.feature)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, d], not negative."""
        return F.relu(self.feature(self.units(self.stem(x)).flatten(2).mean(2)))


def check_size(shape: tuple[int, ...], net: Net) -> None:
    """Raise StageError if an input is smaller than a kernel, or than what is left of it after all poolings."""
    dims, least = len(shape) - 1, 2 ** len(net.widths)
    kernel = net.stem_kernel_1d if dims == 1 else net.stem_kernel_2d
    for size in shape[1:]:
        if size < max(kernel, *net.kernels) or size < least:
            raise StageError(
                f"windows or images of {size} points are shorter than a kernel ({kernel}, {max(net.kernels)}) or than "
                f"{len(net.widths)} halvings; lengthen the window or choose smaller kernels"
            )


class SingleHead(nn.Sequential):
    """The head of stage 1: dropout and a linear map."""

    def __init__(self, net: Net, classes: int) -> None:
        super().__init__(nn.Dropout(net.dropout), nn.Linear(net.feature, classes))


class FusionHead(nn.Sequential):
    """The head of a merged net: a hidden layer over the features of all branches."""

    def __init__(self, net: Net, branches: int, classes: int) -> None:
        hidden = nn.Linear(branches * net.feature, net.fusion)
        super().__init__(hidden, nn.ReLU(), nn.Dropout(net.dropout), nn.Linear(net.fusion, classes))
