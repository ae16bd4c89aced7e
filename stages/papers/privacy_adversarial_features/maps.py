"""Mappings from features to what leaves the device: several of one shape trained at once, and each as a device runs it."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from stages.papers.privacy_adversarial_features.tables import Task


class Maps(nn.Module):
    """`count` maps of the same input at once: linear, or nets of one hidden layer with ReLU."""

    def __init__(self, count: int, inputs: int, dims: int, hidden: int, generator: torch.Generator) -> None:
        """Weights of variance 1/inputs; every one of the maps begins with the same. hidden 0: linear."""
        super().__init__()
        sizes = [inputs, hidden, dims] if hidden else [inputs, dims]
        draws = [torch.randn(a, b, generator=generator) * a**-0.5 for a, b in pairwise(sizes)]
        self.weights = nn.ParameterList([nn.Parameter(draw.repeat(count, 1, 1)) for draw in draws])
        self.bias = nn.Parameter(torch.zeros(count, 1, hidden)) if hidden else None

    def begin_with(self, directions: Tensor) -> None:
        """Start all (linear) maps from the columns of W (D, d)."""
        with torch.no_grad():
            self.weights[0].copy_(directions.to(self.weights[0].dtype))

    def forward(self, x: Tensor) -> Tensor:
        """z [count, n, d] of samples [n, D]."""
        z = x @ self.weights[0]
        return z if self.bias is None else (z + self.bias).relu() @ self.weights[1]

    def one(self, place: int) -> tuple[Tensor, ...]:
        """Tensors of one map: (W,) or (W1, b, W2)."""
        first = self.weights[0][place].detach()
        return (first,) if self.bias is None else (first, self.bias[place, 0].detach(), self.weights[1][place].detach())


class DeviceMap(nn.Module):
    """The map of one device: takes features as they are measured, with the standardisation folded into the first product."""

    def __init__(self, tensors: tuple[Tensor, ...], task: Task) -> None:
        """Tensors of `Maps.one`, for the standardised features of a task."""
        super().__init__()
        weight = tensors[0].double() / task.deviation[:, None]
        offset = -task.mean @ weight + (tensors[1].double() if len(tensors) == 3 else 0.0)
        self.first = _linear(weight, offset)
        self.second = _linear(tensors[2].double(), None) if len(tensors) == 3 else None

    def forward(self, x: Tensor) -> Tensor:
        """z [n, d] of features [n, D] in their own units."""
        z = self.first(x)
        return z if self.second is None else self.second(z.relu())


def _linear(weight: Tensor, offset: Tensor | None) -> nn.Linear:
    layer = nn.Linear(*weight.shape, bias=offset is not None, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        if offset is not None:
            layer.bias.copy_(offset)
    return layer


def apply(tensors: tuple[Tensor, ...], x: Tensor) -> Tensor:
    """z [n, d] of standardised samples [n, D]."""
    z = x @ tensors[0].to(x.dtype)
    return z if len(tensors) == 1 else (z + tensors[1]).relu() @ tensors[2].to(x.dtype)


def cost(sizes: list[int]) -> dict[str, int]:
    """On-device cost of a map through layers of these sizes, D first and d last.

    macs: multiply-adds a sample; map_bytes: weights and offsets in float32; sent_bytes: what leaves the device for a sample.
    A single size is the raw features: nothing is computed.
    """
    macs = sum(a * b for a, b in pairwise(sizes))
    offsets = sizes[1] if len(sizes) > 1 else 0
    return {"macs": macs, "map_bytes": 4 * (macs + offsets), "sent_bytes": 4 * sizes[-1]}
