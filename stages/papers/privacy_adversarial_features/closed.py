"""Linear maps by one eigenproblem: of the utility alone, or of utility and secret together."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from stages.lib.dependence import balanced_labels, between, directions, scatter
from stages.lib.errors import StageError
from stages.papers.privacy_adversarial_features.tables import Task

HELD_OUT = 5  # one training sample in so many chooses the ridge


class Scatters:
    """Averaged scatter matrices (D, D) of a task's training samples, in float64."""

    def __init__(self, task: Task) -> None:
        x = task.train.double()
        self.total = scatter(x)
        self.utility = between(x, balanced_labels(task.u, task.utilities))
        self.secret = between(x, balanced_labels(task.s, task.secrets))
        self.secrets = task.secrets

    def ridge(self, rho: float) -> Tensor:
        """rho I."""
        return rho * torch.eye(len(self.total), dtype=torch.float64, device=self.total.device)


def pca(scatters: Scatters, dims: int) -> Tensor:
    """Directions (D, dims) of largest variance."""
    return directions(scatters.total, scatters.ridge(1.0), dims)


def pls(scatters: Scatters, dims: int) -> Tensor:
    """Directions of largest covariance with the utility label (left singular vectors of Zc'Y)."""
    return directions(scatters.utility, scatters.ridge(1.0), dims)


def dca(scatters: Scatters, dims: int, rho: float) -> Tensor:
    """Discriminant component analysis with ridge: eigenvectors of (S_B^u, S + rho I)."""
    return directions(scatters.utility, scatters.total + scatters.ridge(rho), dims)


def desensitised(scatters: Scatters, dims: int, rho: float) -> Tensor:
    """DCA for the utility in what is left when the C_s - 1 leading directions of DCA for the secret are discarded."""
    denominator = scatters.total + scatters.ridge(rho)
    kept = directions(scatters.secret, denominator)[:, scatters.secrets - 1 :]
    if kept.shape[1] < dims:
        raise StageError(
            f"dims={dims}: {len(scatters.total)} features without {scatters.secrets - 1} of the secret leave {kept.shape[1]}"
        )
    within = directions(kept.T @ scatters.utility @ kept, kept.T @ denominator @ kept, dims)
    return kept @ within


def choose_ridge(task: Task, dims: int, ridges: Sequence[float]) -> float:
    """The ridge with which DCA of four fifths of the training samples puts most of the others nearest to their class's mean."""
    if len(ridges) == 1:
        return ridges[0]
    held = torch.arange(len(task.u), device=task.u.device) % HELD_OUT == 0
    scatters = Scatters(dataclasses.replace(task, train=task.train[~held], u=task.u[~held], s=task.s[~held]))
    hot = torch.nn.functional.one_hot(task.u[~held], task.utilities).double()
    right = []
    for rho in ridges:
        z = task.train.double() @ dca(scatters, dims, rho)  # whitened, so that distances mean the same along all directions
        means = hot.T @ z[~held] / hot.sum(0).clamp_min(1)[:, None]
        right.append(int((torch.cdist(z[held], means).argmin(1) == task.u[held]).sum()))
    return ridges[max(range(len(ridges)), key=right.__getitem__)]


def ruca(
    scatters: Scatters, dims: int, ridges: tuple[float, float], prices: Sequence[float],
    others: Sequence[tuple[Tensor, float]] = (),
) -> list[Tensor]:  # fmt: skip
    """Ratio utility and cost analysis (Al, Wan and Kung, arXiv 1702.07976), one map for each privacy price mu.

    w maximises w'(S_B^u + rho_1 I) w / w'(mu S_B^s + S_W^u + rho_2 I) w with the ridges (rho_1, rho_2); `others` are further
    secrets' scatters with weights, added to mu S_B^s.
    """
    numerator = scatters.utility + scatters.ridge(ridges[0])
    within = scatters.total - scatters.utility + scatters.ridge(ridges[1])
    added = sum((weight * cost for cost, weight in others), torch.zeros_like(within))
    return [directions(numerator, price * (scatters.secret + added) + within, dims) for price in prices]


def utility_privacy_lda(scatters: Scatters, dims: int, rho: float) -> Tensor:
    """Directions of (S_B^u, S_B^s + rho I), where the official minimax filter starts."""
    return directions(scatters.utility, scatters.secret + scatters.ridge(rho), dims)
