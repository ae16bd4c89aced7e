"""The context-aware peer (Zhuang, Liu, Shen, Reid 2017): a predicate classifier whose weights depend on both words."""

import torch
from torch import Tensor, nn

from stages.lib.runtime import derive_seed
from stages.papers.hcvrd.attention import weights


def word_vectors(words: list[str], dimensions: int) -> Tensor:
    """Vectors [n, dimensions] of length about 1 that depend on the word alone; they stand for word2vec's."""
    rows = [torch.randn(dimensions, generator=torch.Generator().manual_seed(derive_seed(0, "word", word))) for word in words]
    return torch.stack(rows) / dimensions**0.5


class ContextLayer(nn.Module):
    """logit_p = sum_D W(q)[D, p] sum_HW a_p X + b_p, with W(q) = W0 + sum_r q_r V_r and a_p from a second such W'(q)."""

    def __init__(self, channels: int, predicates: int, words: int, rank: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(2 * words, rank)
        # The published code draws from [0, 1), positive and large; normal(.01) trains.
        self.plain = nn.Parameter(0.01 * torch.randn(2, channels, predicates))  # classifier and attention
        self.varied = nn.Parameter(0.01 * torch.randn(2, rank, channels, predicates))
        self.bias = nn.Parameter(torch.zeros(predicates))

    def forward(self, maps: Tensor, words: Tensor) -> Tensor:
        """Logits [n, P] of maps [n, D, H, W] in the context of two words' vectors [n, 2 words]."""
        q = self.squeeze(words)
        classify, attend = (self.plain[i] + torch.einsum("nr,rdp->ndp", q, self.varied[i]) for i in (0, 1))
        attention = weights(torch.einsum("ndhw,ndp->nphw", maps, attend))
        seen = torch.einsum("nphw,ndhw->npd", attention, maps)
        return torch.einsum("npd,ndp->np", seen, classify) + self.bias
