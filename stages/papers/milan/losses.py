"""What the student's predictions are compared with (section 3.5 of the paper's specification)."""

import torch
from torch import Tensor
from torch.nn import functional as F

PIXEL_EPSILON = 1e-6


def feature_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """2 - 2 cos, averaged over the batch and all N + 1 tokens, hidden or not: the squared distance of unit vectors."""
    cosine = (F.normalize(predicted, dim=-1) * F.normalize(target, dim=-1)).sum(-1)
    return (2.0 - 2.0 * cosine).mean()


def patchify(x: Tensor, patch: int) -> Tensor:
    """Pixels [B, N, patch * patch * C] of images [B, C, H, W], patches in raster order."""
    batch, channels, height, width = x.shape
    grid = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def pixel_target(x: Tensor, patch: int, normalise: bool) -> Tensor:
    """MAE's target: a patch's pixels, normalised by its own mean and unbiased variance if asked."""
    target = patchify(x, patch)
    if not normalise:
        return target
    return (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + PIXEL_EPSILON) ** 0.5


def pixel_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error, averaged over the hidden patches (mask 1 of [B, N]) alone, as in MAE; 0 where none is hidden."""
    error = ((predicted - target) ** 2).mean(-1)
    return (error * mask).sum() / torch.clamp(mask.sum(), min=1.0)
