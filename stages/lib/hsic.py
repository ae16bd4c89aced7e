"""Dependence of two variables by kernels: the Hilbert-Schmidt independence criterion (Gretton et al., ALT 2005).

A kernel matrix holds the similarities of n samples; HSIC is 0 for independent variables, and larger the more of one
follows from the other. Everything takes leading batch dimensions, so that many variables are compared at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-12  # added to deviations: a constant feature stays 0


def standardised(x: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Features of samples [..., n, f] with mean 0 and deviation 1 over the samples; a constant feature becomes 0."""
    shifted = x - x.mean(-2, keepdim=True)
    return shifted / (shifted.square().mean(-2, keepdim=True).sqrt() + epsilon)


def squared_distances(x: Tensor) -> Tensor:
    """[..., n, n] squared Euclidean distances of samples [..., n, f]."""
    squares = x.square().sum(-1)
    return (squares.unsqueeze(-1) + squares.unsqueeze(-2) - 2.0 * x @ x.transpose(-1, -2)).clamp_min(0.0)


def gaussian_kernel(x: Tensor, widths: Sequence[float]) -> Tensor:
    """[..., n, n] mean over the widths s of exp(-|x - x'|^2 / (2 s^2)) for samples [..., n, f]."""
    distances = squared_distances(x)
    return torch.stack([(distances / (-2.0 * width * width)).exp() for width in widths]).mean(0)


def linear_kernel(y: Tensor) -> Tensor:
    """[..., n, n] inner products of samples [..., n, f]."""
    return y @ y.transpose(-1, -2)


def centred(kernel: Tensor) -> Tensor:
    """H K H with H = I - 11^T / n: rows and columns of [..., n, n] sum to 0."""
    columns = kernel - kernel.mean(-2, keepdim=True)
    return columns - columns.mean(-1, keepdim=True)


def hsic(first: Tensor, second: Tensor) -> Tensor:
    """tr(H K H L) / (n - 1)^2 of kernels [..., n, n]; leading dimensions are broadcast, one value for each pair."""
    return (centred(first) * second).sum((-2, -1)) / (first.shape[-1] - 1) ** 2


def hsic_linear(kernel: Tensor, y: Tensor) -> Tensor:
    """`hsic(kernel, linear_kernel(y))` of kernels [..., n, n] and samples [n, c], without the second matrix.

    As tr(H K H y y^T) = sum over columns of (H y)^T K (H y), the kernels need no centring.
    """
    shifted = y - y.mean(0)
    return ((kernel @ shifted) * shifted).sum((-2, -1)) / (len(y) - 1) ** 2
