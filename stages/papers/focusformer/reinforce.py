"""Updates of the sampler by REINFORCE, whatever scores the architectures."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib.adamw import AdamW
from stages.papers.focusformer import cost, rewards
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.cost import Canvas
from stages.papers.focusformer.sampler import Sampler
from stages.papers.focusformer.space import Architecture

if TYPE_CHECKING:
    from stages.papers.focusformer.settings import Sampler as Options

Score = Callable[[list[Architecture], Tensor], Tensor]


def prior(sampler: Sampler, form: str, count: int) -> Tensor:
    """`count` budgets in MACs from p(r), stratified: all anchors in turn, or spread over their `range`."""
    anchors = sampler.anchors
    draws = (torch.randperm(count) + torch.rand(count, dtype=torch.float64)) / count
    if form == "anchors":
        return anchors[(draws * len(anchors)).long().to(anchors.device)]
    return anchors[0] + draws.to(anchors) * (anchors[-1] - anchors[0])


def update(sampler: Sampler, policy: AdamW, options: "Options", canvas: Canvas, score: Score) -> None:
    """One update on `options.batch` architectures for each of as many budgets as there are anchors.

    Rewards compare architectures of one budget. `score` gives the accuracies [B] of architectures and their decisions
    [B, L], all measured alike, or where only their order counts any score that has it; the weights behind it get no gradient.
    """
    budgets = prior(sampler, options.prior, len(sampler.anchors))
    codes, log_prob, entropy = sampler(budgets.repeat_interleave(options.batch))
    found = [spaces.decode(sampler.space, row) for row in codes.tolist()]
    macs = torch.tensor([float(cost.macs(one, canvas)) for one in found]).view(len(budgets), -1)
    accuracy, losses = score(found, codes).cpu().view(len(budgets), -1), []
    groups = zip(budgets.tolist(), accuracy, macs, log_prob.view_as(macs), entropy.view_as(macs), strict=True)
    for budget, reached, spent, chance, spread in groups:
        told = rewards.reward(options, reached, spent, budget).to(chance)
        losses.append(rewards.policy_loss(chance, told, spread, options.entropy))
    torch.stack(losses).mean().backward()
    policy.step(options.lr)
