"""How many channels each layer keeps, decided over all layers by the BN scales (section 3.2)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Cost = Callable[[Sequence[int]], int]  # MACs of the net with these widths


def place(share: float, count: int) -> int:
    """int(share * count), with a product that is whole but for rounding taken as whole (0.29 * 100 is 29)."""
    return int(round(share * count, 9))


def threshold(scales: Sequence[Tensor], sparsity: float) -> float:
    """q(S): element int(S n) of all n absolute scales in ascending order; -1 (below all) where S <= 0."""
    everything = torch.cat([scale.detach().abs().flatten().double().cpu() for scale in scales]).sort().values
    return float(everything[min(place(sparsity, len(everything)), len(everything) - 1)]) if sparsity > 0 else -1.0


def above(scales: Sequence[Tensor], bound: float) -> list[int]:
    """Channels of each layer whose absolute scale is greater than the bound, at least one a layer.

    Counted, not computed as int(C (1 - ratio)), which can lose a channel to rounding. The official code has no
    lower limit and can empty a layer.
    """
    return [max(1, int((scale.detach().abs().double().cpu() > bound).sum())) for scale in scales]


def widths(scales: Sequence[Tensor], sparsity: float) -> list[int]:
    """K^l(S) of every layer. The channel at the threshold is dropped too, so that int(S n) + 1 go if none are equal."""
    return above(scales, threshold(scales, sparsity))


def sparsity_at_cost(scales: Sequence[Tensor], cost: Cost, target: float) -> float:
    """The sparsity S whose widths K^l(S) make the net with MACs nearest to `target`, as a share of the n channels.

    Only channels that are alive (scale > 0) are counted as kept, so a net that is already smaller stays as it is.
    """
    count = sum(len(scale) for scale in scales)
    # Where channels are dead, the widest net is the one without them: half a channel is more than S = 0, which keeps all.
    least = 0.5 if any(bool((scale == 0).any()) for scale in scales) else 0.0
    shares = [least / count, *(i / count for i in range(1, count))]
    low, high = 0, count - 1  # MACs fall as S rises
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(widths(scales, shares[middle])) > target else (low, middle)
    return min((shares[high], shares[low]), key=lambda share: abs(cost(widths(scales, share)) - target))


def uniform_widths(channels: Sequence[int], cost: Cost, target: float) -> list[int]:
    """Equal shares: round(share C), at least 1, with the share whose net has MACs nearest to `target`."""
    shares = sorted({(2 * kept + 1) / (2 * c) for c in channels for kept in range(c)} | {1.0})
    options = [[max(1, min(c, int(share * c + 0.5 + 1e-9))) for c in channels] for share in shares]
    return min(options, key=lambda found: abs(cost(found) - target))
