"""Where the digit is: a linear probe of single patch tokens, a stand-in for segmentation."""

from typing import TYPE_CHECKING

import numpy
from torch import Tensor

from stages.papers.milan.sampling import Division
from stages.papers.milan.transfer import classify

if TYPE_CHECKING:
    from stages.papers.milan.settings import Transfer


def intersection_over_union(predicted: numpy.ndarray, true: numpy.ndarray) -> float:
    """Patches that both call foreground, of those that either does; 1 where neither calls any."""
    either = int((predicted | true).sum())
    return int((predicted & true).sum()) / either if either else 1.0


def foreground_iou(seen: Tensor, true: Tensor, asked: Tensor, answers: Tensor, params: "Transfer") -> float:
    """IoU of the foreground that a linear probe of patch tokens [N, patches, D] finds, trained on labelled scenes.

    `true` and `answers` (bool [N, patches]) say which patches lie in the digit's box.
    """
    found = classify(seen.flatten(0, 1), true.flatten().long(), asked.flatten(0, 1), params.probe_c)
    return intersection_over_union(found.astype(bool), answers.flatten().numpy())


def visible_foreground(division: Division, foreground: Tensor) -> float:
    """Share of the foreground's patches (bool [N, patches]) that a division leaves visible."""
    shown = division.mask() == 0
    return float((shown & foreground).sum() / foreground.sum())
