"""Rewards of architectures sampled for one budget: PNAG's Pareto dominance as a rank, TuNAS's and MnasNet's forms."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib.errors import StageError

if TYPE_CHECKING:
    from stages.papers.focusformer.settings import Sampler as Options


def dominates(accuracy: Tensor, cost: Tensor, budget: float, floor: float = 0.0) -> Tensor:
    """Bool [B, B]: whether architecture i beats j under a budget (the strict weak order of PNAG's reward estimator).

    Both over it: the cheaper wins; both within: the more accurate wins; otherwise the one within wins. With a floor, within
    means from floor * budget to the budget, the window of AutoFormer's search, and of two outside the nearer one wins.
    """
    outside = torch.where(cost > budget, cost / budget - 1.0, (floor * budget - cost).clamp_min(0.0) / budget).double()
    within = outside == 0.0
    key = torch.where(within, accuracy.double(), -outside)
    better, same = key.unsqueeze(1) > key.unsqueeze(0), within.unsqueeze(1) == within.unsqueeze(0)
    return torch.where(same, better, within.unsqueeze(1) & ~within.unsqueeze(0))


def dominance(accuracy: Tensor, cost: Tensor, budget: float, floor: float = 0.0) -> Tensor:
    """Rank [B] within the batch from 0 (worst) to 1 (best); equal ones share their mean rank."""
    wins = dominates(accuracy, cost, budget, floor).double()
    rivals = len(accuracy) - 1
    return ((wins.sum(1) + rivals - wins.sum(0)) / (2 * rivals)).float()


def tunas(accuracy: Tensor, cost: Tensor, budget: float, beta: float) -> Tensor:
    """Acc + beta |F / r - 1| (Bender et al., TuNAS)."""
    return accuracy + beta * (cost / budget - 1.0).abs()


def mnas(accuracy: Tensor, cost: Tensor, budget: float, beta: float) -> Tensor:
    """Acc (F / r)^beta (Tan et al., MnasNet)."""
    return accuracy * (cost / budget) ** beta


def reward(options: "Options", accuracy: Tensor, cost: Tensor, budget: float) -> Tensor:
    """Rewards [B] of accuracies [B] and costs [B] under one budget. Raises StageError for an accuracy that is not finite."""
    if not bool(torch.isfinite(accuracy).all()):
        raise StageError("sampler: an accuracy is not finite; the supernet has diverged, lower recipe.lr")
    if options.reward == "dominance":
        return dominance(accuracy, cost, budget, options.floor)
    return (tunas if options.reward == "tunas" else mnas)(accuracy, cost, budget, options.beta)


def policy_loss(log_prob: Tensor, rewards: Tensor, entropy: Tensor, weight: float) -> Tensor:
    """REINFORCE with a baseline: mean of -log pi (R - b) - weight H.

    b_i is the mean reward of the other samples. Against the mean of all this is the factor B / (B - 1), which makes the
    gradient unbiased.
    """
    others = (rewards.sum() - rewards) / (len(rewards) - 1)
    return (-(rewards - others).detach() * log_prob - weight * entropy).mean()
