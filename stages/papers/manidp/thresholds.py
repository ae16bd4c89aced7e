"""Per-layer thresholds from the training set's mean saliencies."""

import math

import torch
from torch import Tensor

from stages.lib.errors import StageError


def check_rate(rate: float, key: str = "keep rate") -> float:
    """`rate` itself; StageError unless it is in (0, 1]."""
    if not 0.0 < rate <= 1.0:
        raise StageError(f"{key}={rate}: expected a share in (0, 1]")
    return rate


def remaining(epoch: int, epochs: int, target: float) -> float:
    """Share of channels to keep after `epoch` (from 0) of `epochs`: from 1 to the target by half a cosine."""
    check_rate(target)
    done = min(epoch + 1, epochs) / epochs
    return (1.0 - target) / 2 * math.cos(math.pi * done) + (1.0 + target) / 2


def threshold(means: Tensor, rate: float) -> Tensor:
    """The ceil(rate c)-th largest of a layer's mean saliencies [c]; entries equal to it stay (ties)."""
    check_rate(rate)
    if not bool(means.isfinite().all()):
        raise StageError("threshold: mean saliencies hold NaN or infinity; training has diverged, lower lr")
    count = math.ceil(round(rate * len(means), 9))  # .7 * 10 is 7.000000000000001 in floats
    return means.topk(count).values[-1]


def graded(means: Tensor, opening: float) -> Tensor:
    """Threshold between the ranks of a layer's mean saliencies [c], continuous and falling in `opening` from 0 to 1.

    Opening 0 lies above all means, j / (c + 1) at the j-th largest, 1 at 0: everything stays.
    """
    top = means.max()
    ranked = torch.cat([(2 * top + 1e-6).view(1), means.sort(descending=True).values, means.new_zeros(1)])
    place = opening * (len(means) + 1)
    low = min(int(place), len(means))
    return ranked[low] + (ranked[low + 1] - ranked[low]) * (place - low)
