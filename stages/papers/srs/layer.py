"""The layer: SRS with one pair (alpha, beta) for the whole layer, or one for each channel or net."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.papers.srs import feasible
from stages.papers.srs.activation import srs


class SRS(nn.Module):
    """Soft-Root-Sign with trainable alpha and beta that stay feasible.

    Args:
        shape: Of alpha and of beta: () for one pair, (C,) for one a channel, (K, C) for K nets side by side.
        alpha, beta: Values to start from; StageError where they are not positive or make a pole.
        trainable: Whether they are parameters; otherwise buffers.
        channel_dim: Dimension of the input at which `shape` begins.
        constraint: clamp: the forward pass limits the values (a limited value has no gradient). project: it takes them as they
            are, and `project_` has to be called after each step of the optimiser.
    """

    alpha: Tensor
    beta: Tensor

    def __init__(
        self, shape: Sequence[int] = (), alpha: float = 5.0, beta: float = 3.0, trainable: bool = True, channel_dim: int = 1,
        constraint: str = "clamp",
    ) -> None:  # fmt: skip
        super().__init__()
        feasible.check(alpha, beta)
        if constraint not in feasible.CONSTRAINTS:
            raise StageError(f"constraint={constraint}: expected one of {', '.join(feasible.CONSTRAINTS)}")
        self.channel_dim, self.constraint = channel_dim, constraint
        for name, value in (("alpha", alpha), ("beta", beta)):
            start = torch.full(tuple(shape), float(value))
            if trainable:
                setattr(self, name, nn.Parameter(start))
            else:
                self.register_buffer(name, start)

    def pair(self) -> tuple[Tensor, Tensor]:
        """(alpha, beta) as the forward pass uses them."""
        return limited(self.alpha, self.beta) if self.constraint == "clamp" else (self.alpha, self.beta)

    @torch.no_grad()
    def project_(self) -> None:
        """Set both to the nearest feasible values, alpha first; feasible values stay as they are, NaN stays NaN."""
        alpha, beta = limited(self.alpha, self.beta)
        self.alpha.copy_(alpha)
        self.beta.copy_(beta)

    def forward(self, x: Tensor) -> Tensor:
        """SRS of every element of x, whose dimensions from channel_dim on begin with `shape`."""
        return srs(x, *self.spread(x.dim()))

    def spread(self, dimensions: int) -> tuple[Tensor, Tensor]:
        """(alpha, beta) so shaped that they broadcast against an input of so many dimensions."""
        alpha, beta = self.pair()
        if not alpha.dim():
            return alpha, beta
        shape = (1,) * self.channel_dim + alpha.shape + (1,) * (dimensions - self.channel_dim - alpha.dim())
        return alpha.view(shape), beta.view(shape)

    def extra_repr(self) -> str:
        """What printing a net shows."""
        return f"shape={tuple(self.alpha.shape)}, trainable={isinstance(self.alpha, nn.Parameter)}, {self.constraint}"


def limited(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """alpha >= LEAST, LEAST <= beta <= MARGIN e alpha."""
    alpha = alpha.clamp(min=feasible.LEAST)
    return alpha, torch.minimum(beta.clamp(min=feasible.LEAST), feasible.MARGIN * math.e * alpha)


def project(net: nn.Module) -> None:
    """`project_` for every SRS of a net; to be called after each step of the optimiser."""
    for module in net.modules():
        if isinstance(module, SRS):
            module.project_()
