"""Range, slopes and signal statistics of SRS, and how steep an activation is.

With u = x / beta and r = beta / alpha the slope is s(u) = (1 + u) e^-u / (r u + e^-u)^2, a function of r alone. Its two extrema
solve (2 + u) e^-u = r (u^2 + 2 u + 2): one in (-2, -1), where it is least, one above -1, where it is greatest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.papers.srs import feasible

SWISH_LIPSCHITZ = 1.0999  # greatest slope of x sigmoid(x) is 1.09984
SLACK = 1.002  # what the grid of `lipschitz` may miss


@dataclass(frozen=True)
class Slopes:
    """Extrema of SRS and of its slope: least value, greatest slope and where, least slope."""

    least_value: float
    greatest: float
    greatest_at: float
    least: float


@dataclass(frozen=True)
class Moments:
    """Of f(z) and f'(z) for z ~ N(0, 1)."""

    mean: float
    variance: float
    square: float
    slope_square: float


def extrema(alpha: float, beta: float) -> Slopes:
    """To rounding, by bisection. StageError for an impossible pair."""
    feasible.check(alpha, beta)
    ratio = beta / alpha

    def steep(u: float) -> float:
        return (1 + u) * math.exp(-u) / (ratio * u + math.exp(-u)) ** 2

    low, high = _root(ratio, -2.0, -1.0), _root(ratio, 700.0, -1.0)
    return Slopes(alpha * beta / (beta - math.e * alpha), steep(high), beta * high, steep(low))


def _root(ratio: float, below: float, above: float) -> float:
    """Where (2 + u) e^-u - r (u^2 + 2 u + 2), negative at `below` and positive at `above`, changes its sign."""
    for _ in range(200):
        u = (below + above) / 2
        if (2 + u) * math.exp(-u) > ratio * (u * u + 2 * u + 2):
            above = u
        else:
            below = u
    return (below + above) / 2


def lipschitz(alpha: Tensor, beta: Tensor) -> Tensor:
    """An upper bound of max |SRS'| within 0.4 %, for pairs with beta <= 0.95 e alpha; 1 or more since the slope at 0 is 1."""
    kind = {"device": alpha.device, "dtype": alpha.dtype}
    u = torch.cat([torch.linspace(-2, 0, 801, **kind), torch.linspace(0, 20, 1001, **kind)])  # near a pole the peak is below 0
    ratio, decay = (beta / alpha).unsqueeze(-1), torch.exp(-u)
    return ((1 + u).abs() * decay / (ratio * u + decay).square()).amax(-1) * SLACK


def moments(function: Callable[[Tensor], Tensor]) -> Moments:
    """By the trapezium rule on [-12, 12] in float64, the slope by autograd."""
    z = torch.linspace(-12, 12, 48001, dtype=torch.float64).requires_grad_()
    weight = torch.exp(-z.detach().square() / 2) / math.sqrt(2 * math.pi) * (24 / 48000)
    value = function(z)
    (steep,) = torch.autograd.grad(value.sum(), z)
    mean, square, slopes = (float((one.detach() * weight).sum()) for one in (value, value.square(), steep.square()))
    return Moments(mean, square - mean * mean, square, slopes)
