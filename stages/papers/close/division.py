"""The two disjoint parts of the training split."""

import torch

from stages.lib import data
from stages.lib.data import AnySplit, Split
from stages.papers.close.settings import Division


def divide(split: AnySplit, params: Division) -> tuple[Split, Split]:
    """(images that train, images that score), classes in equal shares. StageError if there are too few images."""
    parts = data.stratified(split.y.numpy(), {"train": params.train, "score": params.score}, params.seed)
    train, score = (split.take(torch.from_numpy(parts[name])) for name in ("train", "score"))
    return train, score
