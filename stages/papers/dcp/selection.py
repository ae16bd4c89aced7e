"""Greedy selection of a layer's input channels, Algorithm 2, with the adaptive stop of eq. 10."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from stages.papers.dcp.problem import LayerProblem, Solver

Score = Literal["release", "paper"]


def channel_scores(gradient: Tensor, score: Score = "release") -> Tensor:
    """Scores (c,) of a gradient (n, c, h, z): sum_j ||G_jk||_F in the release, ||G_k||_F in the paper."""
    kernels = gradient.flatten(2).norm(dim=2)
    return kernels.sum(dim=0) if score == "release" else kernels.norm(dim=0)


class Groups(Protocol):
    """What is chosen: a score for every group, and the weight mask of a set of groups."""

    def count(self, weight: Tensor) -> int:
        """Number of groups of a weight."""

    def scores(self, gradient: Tensor) -> Tensor:
        """Score of every group, one-dimensional."""

    def expand(self, chosen: Tensor, weight: Tensor) -> Tensor:
        """Chosen groups (bool) as a mask that broadcasts to the weight."""


@dataclass(frozen=True)
class ChannelGroups:
    """DCP: a group is an input channel, a column V[:, k] of the weight."""

    score: Score = "release"

    def count(self, weight: Tensor) -> int:
        """c of a weight (n, c, h, z)."""
        return weight.shape[1]

    def scores(self, gradient: Tensor) -> Tensor:
        """Scores (c,)."""
        return channel_scores(gradient, self.score)

    def expand(self, chosen: Tensor, weight: Tensor) -> Tensor:
        """Mask (1, c, 1, 1)."""
        return chosen.view(1, -1, 1, 1)


@dataclass(frozen=True)
class Limits:
    """When to stop: at `keep` groups, or by eq. 10 where `epsilon` is given; `per_step` groups join at a time."""

    keep: int
    per_step: int = 1
    epsilon: float | None = None


@dataclass
class Choice:
    """Outcome: groups in order of choice, their mask, and L(V_t) for t = 0 (empty), 1, ..."""

    order: list[int] = field(default_factory=list)
    chosen: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    losses: list[float] = field(default_factory=list)


def select(problem: LayerProblem, groups: Groups, limits: Limits, solver: Solver | None, order: Tensor | None = None) -> Choice:
    """Algorithm 2. Starts at V = 0, leaves the solved V in the layer.

    With `order` the groups are taken in that order instead of by gradient, so that a criterion from elsewhere gets
    the same re-fit; `solver=None` skips the inner problem and leaves warm-started columns as they are.
    """
    weight = problem.start
    choice = Choice(chosen=torch.zeros(groups.count(weight), dtype=torch.bool, device=weight.device))
    problem.set_weight(torch.zeros_like(weight))
    while len(choice.order) < limits.keep:
        loss, gradient = problem.gradient() if order is None else (problem.loss(), None)
        choice.losses.append(loss)
        if limits.epsilon is not None and converged(choice.losses, limits.epsilon):
            return choice
        wanted = min(limits.per_step, limits.keep - len(choice.order))
        scores = _rank(order, choice) if gradient is None else groups.scores(gradient)
        _admit(problem, groups, choice, best(scores, choice.chosen, wanted))
        if solver is not None:
            problem.solve(groups.expand(choice.chosen, weight), solver)
    choice.losses.append(problem.loss())
    return choice


def best(scores: Tensor, taken: Tensor, wanted: int) -> list[int]:
    """The `wanted` highest scores among groups not taken; ties go to the lowest index.

    As in the release, taken groups are excluded by a score of -1.
    """
    scores = torch.where(taken, torch.full_like(scores, -1.0), scores)
    return torch.sort(scores, descending=True, stable=True).indices[:wanted].tolist()


def converged(losses: list[float], epsilon: float) -> bool:
    """Eq. 10: |L(V_{t-1}) - L(V_t)| / L(V_0) <= epsilon, for t >= 1, so that one step is always taken."""
    if len(losses) < 2:
        return False
    return abs(losses[-2] - losses[-1]) <= epsilon * losses[0]


def _rank(order: Tensor, choice: Choice) -> Tensor:
    """Scores that make the greedy loop follow a given order."""
    scores = torch.empty(len(order), device=choice.chosen.device)
    scores[order] = torch.arange(len(order), 0, -1, dtype=scores.dtype, device=scores.device)
    return scores


def _admit(problem: LayerProblem, groups: Groups, choice: Choice, fresh: list[int]) -> None:
    """Adds groups to A; only their part of V is warm-started from W0."""
    new = torch.zeros_like(choice.chosen)
    new[fresh] = True
    choice.order += fresh
    choice.chosen |= new
    problem.set_weight(torch.where(groups.expand(new, problem.start), problem.start, problem.layer.weight.detach()))
