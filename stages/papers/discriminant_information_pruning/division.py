"""The training split in two: what nets are trained on, and what chooses the layer of a greedy step."""

import torch

from stages.lib import data
from stages.lib.data import AnySplit, Split
from stages.lib.errors import StageError


def divided(split: AnySplit, limit: int, holdout: int) -> tuple[Split, Split]:
    """(training images, hold-out) of the training split, disjoint, classes in equal shares, the same for every arm.

    `limit` training images, 0 for all that the hold-out leaves. StageError where a part lacks a class or is too large.
    """
    rest = len(split) - holdout if limit == 0 else limit
    for key, count in (("holdout", holdout), ("limit", rest)):
        if count < len(split.classes):
            raise StageError(f"{key}: {count} images; expected at least one for each of {len(split.classes)} classes")
    parts = data.stratified(split.y.cpu().numpy(), {"holdout": holdout, "limit": rest}, 0)
    return split.take(torch.from_numpy(parts["limit"])), split.take(torch.from_numpy(parts["holdout"]))
