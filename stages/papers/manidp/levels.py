"""Images of known difficulty: noise of a level of its own for each image."""

import dataclasses

import torch
from torch import Tensor

from stages.lib.checks import at_least
from stages.lib.data import Split
from stages.lib.runtime import derive_seed


def with_levels(split: Split, largest: float, seed: int) -> tuple[Split, Tensor]:
    """(the split with noise added, levels s [N]): image i gets normal noise of deviation s_i ~ U(0, largest).

    Deviations are in units of pixels in [0, 1] as the split holds them before normalisation. What is drawn follows from
    the seed and the split's name, so all arms and repetitions see one data set. 0 leaves the images as they are.
    """
    at_least("noise", largest, 0)
    generator = torch.Generator().manual_seed(derive_seed(seed, "noise levels", split.name))
    levels = torch.rand(len(split), generator=generator) * largest
    if largest == 0.0:
        return split, levels
    noise = torch.randn(split.x.shape, generator=generator) * levels.view(-1, 1, 1, 1)
    std = torch.tensor(split.std).view(1, -1, 1, 1)
    return dataclasses.replace(split, x=split.x + noise / std), levels
