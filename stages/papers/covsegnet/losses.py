"""Focal Tversky loss (Abraham and Khan 2019), as in the group's CovTANet, beside binary cross-entropy."""

from torch import Tensor
from torch.nn import functional

from stages.papers.covsegnet.settings import Loss

SMOOTH = 1.0


def tversky_index(p: Tensor, y: Tensor, misses: float, alarms: float) -> Tensor:
    """(TP + 1) / (TP + misses FN + alarms FP + 1) with soft counts over the whole batch; p and y of one shape, in [0, 1]."""
    hit = (p * y).sum()
    return (hit + SMOOTH) / (hit + misses * (y - p * y).sum() + alarms * (p - p * y).sum() + SMOOTH)


def focal_tversky(p: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """(1 - TI)^exponent: 0 for a perfect p, at most 1."""
    # The slope of x^0.75 is infinite at 0, where a perfect batch would end.
    return (1.0 - tversky_index(p, y, loss.misses, loss.alarms)).clamp_min(1e-6) ** loss.exponent


def total(logits: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Cross-entropy, which keeps its gradient where the Tversky index saturates, plus the focal Tversky loss."""
    return functional.binary_cross_entropy_with_logits(logits, y) + focal_tversky(logits.sigmoid(), y, loss)
