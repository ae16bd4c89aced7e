"""Linear classifiers of T tasks, fitted side by side: prototype initialisation and full-batch Adam (section 3.3, 3.4)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.lib import hsic
from stages.lib.adamw import AdamW
from stages.papers.dependency_maximization_fsl import objective
from stages.papers.dependency_maximization_fsl.objective import Loss
from stages.papers.dependency_maximization_fsl.settings import Fit


@dataclass(frozen=True)
class Labelled:
    """Points with labels: features (T, m, d), labels (T, m) and weights (T, m); weight 0 leaves a point out."""

    features: Tensor
    labels: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Unlabelled:
    """Points without labels: features (T, n, d) and, where the dependence is used, their centred kernel (T, n, n)."""

    features: Tensor
    kernel: Tensor | None = None


def normed(features: Tensor, how: str, reference: Tensor) -> Tensor:
    """Features (T, m, d) as params.fit.feature_norm says; zscore takes the moments of `reference` (T, n, d)."""
    if how == "l2":
        return nn.functional.normalize(features, dim=2)
    if how == "zscore":
        mean = reference.mean(1, keepdim=True)
        deviation = (reference - mean).square().mean(1, keepdim=True).sqrt()
        return (features - mean) / (deviation + hsic.EPSILON)
    return features


def prototypes(points: Labelled, ways: int) -> Tensor:
    """Class means mu (T, N, d) of labelled points; every class must have one."""
    hot = nn.functional.one_hot(points.labels, ways).to(points.features.dtype) * points.weights.unsqueeze(2)
    return (hot.transpose(1, 2) @ points.features) / hot.sum(1).unsqueeze(2)


def initial(means: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """W_c = 2 mu_c / T (T, N, d) and b_c = -|mu_c|^2 / T (T, N): the nearest prototype's classifier."""
    return 2.0 * means / temperature, -means.square().sum(2) / temperature


def logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """f W' + b (T, n, N)."""
    return torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))


def fit(
    points: Labelled, unlabelled: Unlabelled, ways: int, temperature: float, loss: Loss, params: Fit, steps: int | None = None
) -> tuple[Tensor, Tensor]:
    """(W, b) of every task after `steps` (params.steps) updates, from new prototypes and a new state of Adam."""
    start = initial(prototypes(points, ways), temperature)
    weight, bias = (nn.Parameter(item) for item in start)
    optimiser = AdamW([([weight, bias], 0.0)])
    wanted = objective.targets(points.labels, ways, params.smoothing)
    share = (points.weights / points.weights.sum(1, keepdim=True)).unsqueeze(2)
    for _ in range(params.steps if steps is None else steps):
        weight.grad, bias.grad = gradients(points.features, wanted, share, unlabelled, weight.data, bias.data, loss)
        optimiser.step(params.lr)
    return weight.data, bias.data


def gradients(
    features: Tensor, wanted: Tensor, share: Tensor, unlabelled: Unlabelled, weight: Tensor, bias: Tensor, loss: Loss
) -> tuple[Tensor, Tensor]:
    """dL/dW (T, N, d) and dL/db (T, N); share (T, m, 1) are the labelled points' weights, of sum 1 a task."""
    slope = (logits(features, weight, bias).softmax(2) - wanted) * share
    by_weight, by_bias = slope.transpose(1, 2) @ features, slope.sum(1)
    if loss.unlabelled:
        own = loss.gradient(logits(unlabelled.features, weight, bias).softmax(2), unlabelled.kernel)
        by_weight.baddbmm_(own.transpose(1, 2), unlabelled.features)
        by_bias += own.sum(1)
    return by_weight, by_bias
