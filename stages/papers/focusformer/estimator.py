"""PNAG's reward estimator in the ViT space: which of two architectures is the more accurate, learned from few measured ones.

What an architecture costs is known exactly, so only accuracies are estimated; budgets come in by the Pareto rule of
`rewards`. Measurements of one update share weights and images, and only such architectures are compared in the loss.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.adamw import AdamW
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.settings import Space

KINDS = ("depth", "embed", "ratio", "heads")
CLIP = 1.0  # norm of the gradient
LR = 0.01


class Estimator(nn.Module):
    """An MLP on one-hot decisions, trained with the pairwise logistic loss on the last `memory` groups of measurements."""

    codes: Tensor
    accuracies: Tensor
    filled: Tensor

    def __init__(self, space: Space, hidden: int, size: int, memory: int = 32) -> None:
        super().__init__()
        self.choices = max(len(getattr(space, kind)) for kind in KINDS)
        length = spaces.length(space)
        self.net = nn.Sequential(nn.Linear(length * self.choices, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.optimiser = AdamW([(list(self.net.parameters()), 0.0)])
        self.register_buffer("codes", torch.full((memory, size, length), -1))
        self.register_buffer("accuracies", torch.zeros(memory, size))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def forward(self, codes: Tensor) -> Tensor:
        """Scores [...] of decisions [..., L] (`space.encode`); the larger, the more accurate."""
        hot = F.one_hot(codes.clamp_min(0), self.choices) * (codes >= 0).unsqueeze(-1)
        return self.net(hot.flatten(-2).float()).squeeze(-1)

    def learn(self, codes: Tensor, accuracies: Tensor) -> None:
        """Note a group of measurements, [size, L] and [size], and take one step on all that are remembered."""
        place = int(self.filled) % len(self.codes)
        self.codes[place], self.accuracies[place] = codes, accuracies
        self.filled += 1
        known = min(int(self.filled), len(self.codes))
        loss = pairwise_loss(self(self.codes[:known]), self.accuracies[:known])
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        self.optimiser.step(LR)


def pairwise_loss(scores: Tensor, accuracies: Tensor) -> Tensor:
    """log(1 + exp(-(s_i - s_j) y)) averaged over the pairs of each group [.., size], y the sign of the accuracies' difference.

    Equally accurate pairs say nothing and are left out; 0 where there is no other.
    """
    order = torch.sign(accuracies.unsqueeze(-1) - accuracies.unsqueeze(-2))
    losses = F.softplus(-(scores.unsqueeze(-1) - scores.unsqueeze(-2)) * order)
    pairs = (order != 0).sum().clamp_min(1)
    return torch.where(order != 0, losses, 0.0).sum() / pairs
