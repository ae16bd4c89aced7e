"""The architecture sampler pi(a | r; theta): an LSTM that decides depth, width, and each block's ratio and heads in turn.

No official code is public. This is the controller of PNAG (from the same authors' circle) carried over to AutoFormer's
spaces: one linear map and one table of embeddings for each kind of decision, budgets as learned vectors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.gumbel import gumbel_noise
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.settings import Space
from stages.papers.focusformer.space import Architecture

KINDS = ("depth", "embed", "ratio", "heads")
INITIAL = 0.1  # all parameters start uniform in [-INITIAL, INITIAL]


class Sampler(nn.Module):
    """Distribution over a space's architectures given a budget."""

    anchors: Tensor
    depths: Tensor

    def __init__(self, space: Space, anchors: Sequence[float], hidden: int) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("anchors", torch.tensor([float(anchor) for anchor in anchors], dtype=torch.float64), False)
        self.register_buffer("depths", torch.tensor(list(space.depth)), False)
        choices = {kind: len(getattr(space, kind)) for kind in KINDS}
        self.budgets = nn.Parameter(torch.empty(len(anchors), hidden))
        self.cell = nn.LSTMCell(hidden, hidden)
        self.decide = nn.ModuleDict({kind: nn.Linear(hidden, count) for kind, count in choices.items()})
        self.embeddings = nn.ModuleDict({kind: nn.Embedding(count, hidden) for kind, count in choices.items()})
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -INITIAL, INITIAL)

    def budget_embedding(self, budgets: Tensor) -> Tensor:
        """Embeddings [B, hidden] of budgets [B] in MACs: an anchor's own, between two anchors the interpolated one.

        Raises StageError for a budget outside the anchors.
        """
        budgets = budgets.to(self.anchors)
        if bool((budgets < self.anchors[0]).any() | (budgets > self.anchors[-1]).any()):
            low, high = float(self.anchors[0]), float(self.anchors[-1])
            raise StageError(f"budget {budgets.tolist()}: expected MACs between the sampler's anchors, {low:g} to {high:g}")
        upper = torch.searchsorted(self.anchors, budgets.contiguous()).clamp(1, len(self.anchors) - 1)
        below, above = self.anchors[upper - 1], self.anchors[upper]
        share = ((budgets - below) / (above - below)).to(self.budgets.dtype).unsqueeze(1)
        return (1.0 - share) * self.budgets[upper - 1] + share * self.budgets[upper]

    def forward(self, budgets: Tensor, codes: Tensor | None = None, greedy: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Roll out one architecture for each budget.

        Args:
            budgets: [B], MACs.
            codes: Decisions [B, L] (`space.encode`) to score instead of drawing them (teacher forcing).
            greedy: Take the most probable choice everywhere.

        Returns:
            Decisions int64 [B, L], -1 for absent blocks; log pi [B]; sum of the entropies of the emitted decisions [B].
        """
        given, state = self.budget_embedding(budgets), None
        taken, log_prob, entropy = [], given.new_zeros(len(given)), given.new_zeros(len(given))
        emitted = torch.ones(len(given), dtype=torch.bool, device=given.device)
        for step in range(spaces.length(self.space)):
            kind = KINDS[step] if step < 2 else KINDS[2 + step % 2]
            state = self.cell(given, state)
            scores = torch.log_softmax(self.decide[kind](state[0]), -1)
            if step >= 2:
                emitted = self.depths[taken[0]] > (step - 2) // 2
            code = self._choose(scores, greedy) if codes is None else codes[:, step].clamp_min(0)
            log_prob = log_prob + torch.where(emitted, scores.gather(1, code.unsqueeze(1)).squeeze(1), 0.0)
            entropy = entropy - torch.where(emitted, (scores.exp() * scores).sum(1), 0.0)
            taken.append(code)
            given = self.embeddings[kind](code)
            if step >= 2:
                taken[-1] = torch.where(emitted, code, -1)
        return torch.stack(taken, 1), log_prob, entropy

    @staticmethod
    def _choose(scores: Tensor, greedy: bool) -> Tensor:
        if greedy:
            return scores.argmax(1)
        # Gumbel-max; drawn by the process's CPU generator, which is part of a resumable state.
        return (scores.detach() + gumbel_noise(tuple(scores.shape), torch.default_generator).to(scores)).argmax(1)

    @torch.no_grad()
    def draw(self, budgets: Tensor, greedy: bool = False) -> list[Architecture]:
        """An architecture for each budget [B]."""
        return [spaces.decode(self.space, codes) for codes in self(budgets, greedy=greedy)[0].tolist()]

    def log_prob(self, found: Sequence[Architecture], budgets: Tensor) -> Tensor:
        """log pi(a | r) [B] of given architectures."""
        codes = torch.tensor([spaces.encode(self.space, one) for one in found], device=self.budgets.device)
        return self(budgets, codes)[1]
