"""Measures of a scan: overlap, errors of both kinds, the distance of outlines. Always volume by volume."""

import math
from collections.abc import Sequence

import numpy
from torch import Tensor


def measures(found: Tensor, truth: Tensor, spacing: Sequence[float]) -> dict[str, float]:
    """Of masks bool [D, H, W]. A ratio without anything to divide by is 1: nothing was there, and nothing was missed.

    The precision of finding nothing is 0 where there was something.
    """
    hit, alarms = int((found & truth).sum()), int((found & ~truth).sum())
    missed, clear = int((~found & truth).sum()), int((~found & ~truth).sum())
    return {
        "dice": ratio(2 * hit, 2 * hit + alarms + missed),
        "iou": ratio(hit, hit + alarms + missed),
        "sensitivity": ratio(hit, hit + missed),
        "specificity": ratio(clear, clear + alarms),
        "precision": ratio(hit, hit + alarms) if hit + alarms or not missed else 0.0,
        "hd95": hausdorff95(found.numpy(), truth.numpy(), spacing),
    }


def dice(found: Tensor, truth: Tensor) -> float:
    """The same Dice alone."""
    return ratio(2 * int((found & truth).sum()), int(found.sum()) + int(truth.sum()))


def ratio(part: int, whole: int) -> float:
    """part / whole, and 1 for 0 / 0."""
    return part / whole if whole else 1.0


def surface(mask: numpy.ndarray) -> numpy.ndarray:
    """Voxels of a mask with a face to the outside; beyond the volume is outside."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def hausdorff95(found: numpy.ndarray, truth: numpy.ndarray, spacing: Sequence[float]) -> float:
    """95 % quantile of the distances (mm) from each surface to the other, pooled.

    0 if both masks are empty; the volume's diagonal if one is, the largest distance that there could be.
    """
    from scipy.ndimage import distance_transform_edt

    if not found.any() and not truth.any():
        return 0.0
    if not found.any() or not truth.any():
        return math.sqrt(sum((length * one) ** 2 for length, one in zip(found.shape, spacing, strict=True)))
    edges = surface(found), surface(truth)
    away = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return float(numpy.quantile(numpy.concatenate([away[1][edges[0]], away[0][edges[1]]]), 0.95))
