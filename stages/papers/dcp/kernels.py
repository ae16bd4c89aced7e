"""DKP, the journal version's kernel pruning: the same problem with 2-D kernels V[j, k] as groups (spec 3.6).

Kernels are masked, not removed; an input channel all of whose kernels are zero can be cut like a pruned channel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


def kernel_scores(gradient: Tensor) -> Tensor:
    """||G_jk||_F of every kernel, (n, c), from a gradient (n, c, h, z)."""
    return gradient.flatten(2).norm(dim=2)


@dataclass(frozen=True)
class KernelGroups:
    """A group is a kernel (j, k); groups are numbered j * c + k."""

    def count(self, weight: Tensor) -> int:
        """n c of a weight (n, c, h, z)."""
        return weight.shape[0] * weight.shape[1]

    def scores(self, gradient: Tensor) -> Tensor:
        """Scores (n c,)."""
        return kernel_scores(gradient).flatten()

    def expand(self, chosen: Tensor, weight: Tensor) -> Tensor:
        """Mask (n, c, 1, 1)."""
        return chosen.view(weight.shape[0], weight.shape[1], 1, 1)


def kernel_mask(weight: Tensor) -> Tensor:
    """Which kernels of a weight (n, c, h, z) are not all zero: bool (n, c, 1, 1)."""
    return weight.detach().flatten(2).ne(0).any(dim=2)[:, :, None, None]


def live_channels(weight: Tensor) -> Tensor:
    """Input channels with at least one kernel that is not zero, ascending; at least channel 0, so that a layer stays."""
    alive = torch.nonzero(kernel_mask(weight).flatten(1).any(dim=0)).flatten()
    return alive if len(alive) else alive.new_zeros(1)


def freeze_zero_kernels(layers: list[nn.Conv2d]):
    """A function that puts the kernels that are zero now back to zero: for use after each step of fine-tuning."""
    masks = [kernel_mask(layer.weight) for layer in layers]

    def restore() -> None:
        with torch.no_grad():
            for layer, mask in zip(layers, masks, strict=True):
                layer.weight *= mask

    return restore
