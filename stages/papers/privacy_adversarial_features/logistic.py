"""Multinomial logistic regression with l2, for many sets of features at once.

Steps use Boehning's bound of the Hessian (1992), 1/2 X'X/n, so that one factor serves all iterations and no step can
overshoot; Nesterov's extrapolation makes them fast.
"""

import torch
from torch import Tensor
from torch.nn import functional


def with_offset(z: Tensor) -> Tensor:
    """[..., n, d + 1]: a column of ones beside features [..., n, d]."""
    return torch.cat((z, torch.ones_like(z[..., :1])), -1)


def loss(z: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy (...) of labels (n,) at features (..., n, d) and weights (..., d + 1, C)."""
    logs = functional.log_softmax(with_offset(z) @ weights, -1)
    return -logs.gather(-1, y[:, None].expand(*logs.shape[:-1], 1)).mean((-2, -1))


def fit(z: Tensor, y: Tensor, classes: int, steps: int, decay: float, start: Tensor | None = None) -> Tensor:
    """Weights (..., d + 1, C) after `steps` iterations from `start` (or 0); the objective is loss + decay |W|^2 / 2."""
    x = with_offset(z)
    count = x.shape[-2]
    bound = x.transpose(-1, -2) @ x / (2 * count)
    factor = torch.linalg.cholesky(bound + decay * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device))
    hot = functional.one_hot(y, classes).to(x.dtype)
    weights = torch.zeros(*x.shape[:-2], x.shape[-1], classes, dtype=x.dtype, device=x.device) if start is None else start
    ahead, momentum = weights, 1.0
    for _ in range(steps):
        gradient = x.transpose(-1, -2) @ ((x @ ahead).softmax(-1) - hot) / count + decay * ahead
        stepped = ahead - torch.cholesky_solve(gradient, factor)
        following = (1.0 + (1.0 + 4.0 * momentum * momentum) ** 0.5) / 2.0
        ahead = stepped + (momentum - 1.0) / following * (stepped - weights)
        weights, momentum = stepped, following
    return weights
