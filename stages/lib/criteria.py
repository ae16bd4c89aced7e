"""Orders of channels that any pruning method is compared with: the L1 norm of filters (Li et al., 2017) and chance."""

import torch
from torch import Tensor


def l1_order(filters: Tensor) -> Tensor:
    """Channels (c,) by falling L1 norm of the filters (c, ...) that produce them; ties to the lowest index."""
    return torch.sort(filters.detach().abs().flatten(1).sum(dim=1), descending=True, stable=True).indices


def random_order(channels: int, generator: torch.Generator) -> Tensor:
    """A random order of the channels (c,)."""
    return torch.randperm(channels, generator=generator)
