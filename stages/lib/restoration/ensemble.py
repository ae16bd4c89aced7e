"""The eight flips and quarter turns of a square: augmentation of patches, and the self-ensemble of EDSR's paper."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TURNS = 8


def turn(x: Tensor, way: int) -> Tensor:
    """[..., H, W] turned by `way` % 4 quarters and, for ways from 4 on, mirrored first."""
    x = x.flip(-1) if way >= 4 else x
    return x.rot90(way % 4, (-2, -1))


def turn_back(x: Tensor, way: int) -> Tensor:
    """The inverse of `turn`."""
    x = x.rot90(-(way % 4), (-2, -1))
    return x.flip(-1) if way >= 4 else x


def self_ensemble(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Mean over the eight turns of turning x [..., H, W], applying the function and turning back."""
    return torch.stack([turn_back(function(turn(x, way)), way) for way in range(TURNS)]).mean(0)
