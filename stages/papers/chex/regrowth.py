"""How many pruned channels come back, and which (section 3.3)."""

import math

import torch
from torch import Tensor

from stages.papers.chex.leverage import residuals


def decayed(delta: float, time: int, last: int) -> float:
    """delta_t = (1 + cos(pi t / T_max)) / 2 * delta_0; exactly 0 from T_max on."""
    return 0.0 if time >= last else 0.5 * (1.0 + math.cos(math.pi * time / last)) * delta


def probabilities(w: Tensor, kept: Tensor, free: Tensor, sampling: str = "projection") -> Tensor:
    """Probability [f] of each column `free` [f] of w [d, C] to come back.

    Softmax of the residuals of the projection onto the columns `kept` [k], or `uniform`. Small weights make it nearly
    uniform and large ones nearly certain, as published; see `entropy`.
    """
    if sampling == "uniform":
        return torch.full((len(free),), 1.0 / max(1, len(free)), dtype=torch.float64)
    return torch.softmax(residuals(w, kept)[free], dim=0)


def entropy(p: Tensor) -> float:
    """Entropy of p as a share of the uniform distribution's, in [0, 1]; 1 where there is no choice."""
    if len(p) < 2:
        return 1.0
    return float(torch.special.entr(p).sum()) / math.log(len(p))


def drawn(p: Tensor, free: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Up to `count` of the channels `free` [f], drawn without replacement with probabilities p [f]; ascending."""
    if count >= len(free):
        return free
    if count < 1:
        return free[:0]
    # Softmax can underflow to 0, and a draw needs as many positive entries as it takes.
    return free[torch.multinomial(p.clamp(min=1e-30), count, replacement=False, generator=generator)].sort().values
