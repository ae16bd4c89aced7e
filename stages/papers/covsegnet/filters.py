"""What costs nothing instead of phase 2: filters of P along z."""

import math

import torch
from torch import Tensor


def median(p: Tensor) -> Tensor:
    """Median of three slices, p [D, H, W]; the outer slices are repeated."""
    padded = torch.cat([p[:1], p, p[-1:]])
    return torch.stack([padded[:-2], padded[1:-1], padded[2:]]).median(0).values


def gaussian(p: Tensor, sigma: float) -> Tensor:
    """Gaussian mean along z of p [D, H, W], cut at three deviations; the outer slices are repeated."""
    reach = max(1, math.ceil(3 * sigma))
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    padded = torch.cat([p[:1].expand(reach, -1, -1), p, p[-1:].expand(reach, -1, -1)])
    return sum(w * padded[i : i + len(p)] for i, w in enumerate((weight / weight.sum()).tolist()))
