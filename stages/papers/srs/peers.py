"""The activations that are compared, by name. All act on nets side by side: the first dimension of their input counts nets."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.papers.srs.activation import with_slope
from stages.papers.srs.layer import SRS
from stages.papers.srs.names import find_activation
from stages.papers.srs.slopes import SWISH_LIPSCHITZ, lipschitz

if TYPE_CHECKING:
    from stages.papers.srs.settings import Activation

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "softplus": F.softplus,
    "elu": F.elu,
    "selu": F.selu,
    "swish": F.silu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
}
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: (x > 0).to(x.dtype),
    "softplus": torch.sigmoid,
    "elu": lambda x: torch.where(x > 0, torch.ones_like(x), torch.exp(x.clamp(max=0.0))),
    "swish": lambda x: torch.sigmoid(x) * (1 + x * torch.sigmoid(-x)),
    "tanh": lambda x: 1 - torch.tanh(x).square(),
}
LIPSCHITZ = {"relu": 1.0, "elu": 1.0, "softplus": 1.0, "tanh": 1.0, "swish": SWISH_LIPSCHITZ}


class Plain(nn.Module):
    """An activation without parameters."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """The function of every element."""
        return PLAIN[self.name](x)

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(value, slope), both differentiable."""
        return PLAIN[self.name](x), SLOPES[self.name](x)

    def lipschitz(self, nets: int) -> Tensor:
        """Largest absolute slope, [nets]."""
        return torch.full((nets,), LIPSCHITZ[self.name])


class Slope(nn.Module):
    """PReLU (He et al. 2015): a trainable slope for negative inputs, of the given shape, begun at 1/4."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full(tuple(shape), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """x [K, ...], net by net."""
        return torch.where(x > 0, x, self.weight.view(-1, *[1] * (x.dim() - 1)) * x)


class BoundedSlope(SRS):
    """SRS that knows its slope and its Lipschitz constant; it starts inside the margin where that bound holds."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.project_()

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(value, slope), both differentiable."""
        return with_slope(x, *self.spread(x.dim()))

    def lipschitz(self, nets: int) -> Tensor:
        """Largest absolute slope of each net's SRS at its present alpha and beta, [nets]; an upper bound, no gradient."""
        alpha, beta = self.pair()
        return lipschitz(alpha.detach(), beta.detach()).expand(nets)


def activation(name: str, nets: int, options: "Activation", channels: int = 0) -> nn.Module:
    """An activation for `nets` nets side by side; inputs are [nets, channels, ...] where channels have parameters of their own.

    StageError for an unknown name or an impossible alpha and beta.
    """
    find_activation(name)
    if name in PLAIN:
        return Plain(name)
    if name == "prelu":
        return Slope((nets,))
    shape = (nets, channels) if name == "srs_channels" else (nets,)
    return BoundedSlope(
        shape, *options.start(), trainable=name != "srs_frozen", channel_dim=0, constraint=options.constraint
    )  # fmt: skip


class SideBySide(nn.Module):
    """Nets of several arms in one tensor program: each arm's activation sees its own nets, of which all arms have as many."""

    def __init__(self, arms: Sequence[str], nets: int, options: "Activation", channels: int = 0) -> None:
        super().__init__()
        self.arms, self.nets = tuple(arms), nets
        self.each = nn.ModuleList(activation(name, nets, options, channels) for name in arms)

    def forward(self, x: Tensor) -> Tensor:
        """x [arms * nets, ...] to the same shape."""
        return torch.cat([own(part) for own, part in zip(self.each, x.split(self.nets), strict=True)])

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(value, slope) of x [arms * nets, ...], for arms whose slope is known."""
        found = [own.with_slope(part) for own, part in zip(self.each, x.split(self.nets), strict=True)]
        return torch.cat([value for value, _ in found]), torch.cat([slope for _, slope in found])

    def slots(self, arm: int) -> slice:
        """Places of an arm's nets, by its number."""
        return slice(arm * self.nets, (arm + 1) * self.nets)

    def lipschitz(self) -> Tensor:
        """Largest absolute slope of every net's activation, [arms * nets]."""
        return torch.cat([own.lipschitz(self.nets) for own in self.each])
