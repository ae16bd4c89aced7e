"""Which patches the encoder sees: all orders of the patches are drawn, the first ones stay visible."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.gumbel import gumbel_noise

EPSILON = 1e-9  # attention may underflow to 0, and every patch needs a place in the order


@dataclass(frozen=True)
class Division:
    """Visible and hidden patches of a batch.

    keep: int64 [B, n]; dump: int64 [B, M]; restore: int64 [B, N], the place of every patch in [keep, dump].
    """

    keep: Tensor
    dump: Tensor
    restore: Tensor

    def rows(self, which: slice) -> "Division":
        """The division of some of the batch's images."""
        return Division(self.keep[which], self.dump[which], self.restore[which])

    def mask(self) -> Tensor:
        """1 for hidden and 0 for visible patches: float32 [B, N]."""
        return torch.ones(self.restore.shape, device=self.restore.device).scatter(1, self.keep, 0.0)


def visible(patches: int, ratio: float) -> int:
    """int(N (1 - ratio)) patches stay visible. Raises StageError for a ratio outside [0, 1) or one that leaves none."""
    if not 0.0 <= ratio < 1.0:
        raise StageError(f"mask ratio {ratio}: expected 0 or more and below 1")
    kept = int(patches * (1.0 - ratio))
    if kept < 1:
        raise StageError(f"mask ratio {ratio}: hides all of {patches} patches; expected one visible patch or more")
    return kept


def divide(order: Tensor, kept: int) -> Division:
    """The first `kept` patches of every order [B, N] are visible, the rest hidden."""
    return Division(order[:, :kept], order[:, kept:], order.argsort(1))


def semantic_order(importance: Tensor, noise: Tensor) -> Tensor:
    """Orders [B, N] drawn one patch after the other with probability proportional to the importance [B, N] of those left.

    Adding standard Gumbel noise [B, N] to log-weights and sorting draws exactly so (Plackett-Luce), as
    torch.multinomial without replacement does in the official code. Weights need no normalisation.
    """
    return ((importance + EPSILON).log() + noise).argsort(dim=1, descending=True, stable=True)


def random_order(noise: Tensor) -> Tensor:
    """Uniform orders [B, N] from the same noise, so that arms draw equally many numbers."""
    return noise.argsort(dim=1, descending=True, stable=True)


def draw(batch: int, patches: int, ratio: float, importance: Tensor | None, device: torch.device | str = "cpu") -> Division:
    """A division of each image of a batch, from torch's own generator; random where there is no importance [B, N]."""
    noise = gumbel_noise((batch, patches), torch.default_generator).to(device)
    order = random_order(noise) if importance is None else semantic_order(importance, noise)
    return divide(order, visible(patches, ratio))


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """The tokens [B, N, D] at an index [B, n]."""
    return tokens.gather(1, index.unsqueeze(2).expand(-1, -1, tokens.shape[2]))
