"""The terms of a task's loss and their gradients with respect to the predictions, for T tasks side by side.

    L = CE(S) - lambda_DM D - lambda_MI (H_marg - alpha H_cond)

D = tr(H K_F H  H K_P H) is the squared Hilbert-Schmidt norm of the cross-covariance operator between features and
predictions of the unlabelled points (biased HSIC without its factor), with Gaussian kernels on both. Features are frozen, so
K_F is centred once, and centring one side is enough because H is idempotent. Gradients are written out: a task's graph is
tiny and automatic differentiation would cost three times as much.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.lib import hsic
from stages.lib.errors import StageError
from stages.papers.dependency_maximization_fsl.settings import Fit

TINY = 1e-12  # inside logarithms; the official code guards H_cond only


def feature_kernel(features: Tensor, sigma: float) -> Tensor:
    """H K_F H (T, n, n) of features (T, n, d); sigma 0 takes the median of each task's non-zero distances."""
    if sigma > 0:
        return hsic.centred(hsic.gaussian_kernel(features, [sigma]))
    distances = hsic.squared_distances(features)
    return hsic.centred((distances / (-2.0 * median_width(distances).square()[:, None, None])).exp())


def median_width(distances: Tensor) -> Tensor:
    """Median of the non-zero pairwise distances (T,) from squared distances (T, n, n). StageError if all points coincide."""
    count = distances.shape[-1]
    above = torch.ones(count, count, dtype=torch.bool, device=distances.device).triu(1)
    pairs = distances[:, above]
    widths = torch.where(pairs > 0, pairs, torch.nan).nanmedian(1).values.sqrt()
    if bool(widths.isnan().any()):
        raise StageError("fit.sigma_x=0: all points of a task coincide, so there is no median distance; give a width")
    return widths


def dependence(centred: Tensor, predictions: Tensor, sigma: float) -> Tensor:
    """D (T,) of a centred feature kernel (T, n, n) and predictions p (T, n, N)."""
    return (centred * hsic.gaussian_kernel(predictions, [sigma])).sum((1, 2))


def dependence_gradient(centred: Tensor, predictions: Tensor, sigma: float) -> Tensor:
    """dD/dp (T, n, N) = -2 / sigma^2 (A 1 p - A p) with A = (H K_F H) K_P elementwise."""
    squares = predictions.square().sum(-1) / (-2.0 * sigma * sigma)
    exponent = torch.baddbmm(squares.unsqueeze(1), predictions, predictions.transpose(1, 2), alpha=1 / sigma**2)
    weights = exponent.add_(squares.unsqueeze(2)).exp_().mul_(centred)
    return (weights @ predictions - weights.sum(2, keepdim=True) * predictions) * (2.0 / sigma**2)


def information(predictions: Tensor, conditional: float) -> Tensor:
    """H_marg - alpha H_cond (T,) of predictions (T, n, N), entropies in nats."""
    marginal = predictions.mean(1)
    first = -(marginal * (marginal + TINY).log()).sum(1)
    return first + conditional * (predictions * (predictions + TINY).log()).sum(2).mean(1)


def information_gradient(predictions: Tensor, conditional: float) -> Tensor:
    """d(H_marg - alpha H_cond)/dp (T, n, N)."""
    count = predictions.shape[1]
    marginal = predictions.mean(1, keepdim=True)
    first = -((marginal + TINY).log() + marginal / (marginal + TINY))
    second = (predictions + TINY).log() + predictions / (predictions + TINY)
    return (first + conditional * second) / count


def targets(labels: Tensor, ways: int, smoothing: float) -> Tensor:
    """One-hot rows (..., N) of labels (...), with `smoothing` of each spread over all classes."""
    hot = torch.nn.functional.one_hot(labels, ways).float()
    return hot * (1.0 - smoothing) + smoothing / ways


def cross_entropy(predictions: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """CE (T,): mean over the labelled points, each with a weight (T, m), of predictions and targets (T, m, N)."""
    each = -(wanted * (predictions + TINY).log()).sum(2)
    return (each * weights).sum(1) / weights.sum(1)


@dataclass(frozen=True)
class Loss:
    """What of the loss is used, and with which weights; made from the parameters by `choose`."""

    dm: float  # lambda_DM, of the plain trace
    mi: float
    conditional: float
    sigma_y: float

    def value(self, labelled: Tensor, wanted: Tensor, weights: Tensor, predictions: Tensor, centred: Tensor | None) -> Tensor:
        """L (T,)."""
        total = cross_entropy(labelled, wanted, weights)
        if self.dm:
            total = total - self.dm * dependence(centred, predictions, self.sigma_y)
        if self.mi:
            total = total - self.mi * information(predictions, self.conditional)
        return total

    def gradient(self, predictions: Tensor, centred: Tensor | None) -> Tensor:
        """d(L - CE)/d logits (T, n, N) of the unlabelled points; the sum over tasks keeps each task's own gradient."""
        inner = torch.zeros_like(predictions)
        if self.dm:
            inner -= self.dm * dependence_gradient(centred, predictions, self.sigma_y)
        if self.mi:
            inner -= self.mi * information_gradient(predictions, self.conditional)
        return predictions * (inner - (inner * predictions).sum(2, keepdim=True))

    @property
    def unlabelled(self) -> bool:
        """Whether unlabelled points matter."""
        return bool(self.dm or self.mi)


def choose(name: str, fit: Fit, count: int) -> Loss:
    """The loss `ce`, `mi`, `dm` or `hybrid` for tasks with `count` unlabelled points."""
    scale = 1.0 if fit.normalise == "none" else 1.0 / (count - 1) ** 2
    return Loss(
        dm=fit.dm * scale if name in ("dm", "hybrid") else 0.0, mi=fit.mi if name in ("mi", "hybrid") else 0.0,
        conditional=fit.conditional, sigma_y=fit.sigma_y,
    )  # fmt: skip
