"""Evidence from noisy web images: spatial attention, then a mean over the images of a bag (Attend in Groups)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOOR = 0.1


def weights(scores: Tensor) -> Tensor:
    """a = (softplus(s) + .1) / sum over the map, [..., H, W]: above 0 everywhere, sums to 1."""
    raised = F.softplus(scores) + FLOOR
    return raised / raised.sum((-2, -1), keepdim=True)


def pool(maps: Tensor, attention: Tensor) -> Tensor:
    """v = sum over the map of a X: [n, D] of maps [n, D, H, W] and attention [n, H, W]."""
    return (maps.flatten(2) @ attention.flatten(1).unsqueeze(2)).squeeze(2)


class Attention(nn.Module):
    """s = w^T X at every place of a map; with learned=False w stays 0, which is mean pooling."""

    def __init__(self, channels: int, learned: bool = True) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(channels) * 0.001, requires_grad=learned)
        if not learned:
            self.w.data.zero_()

    def look(self, maps: Tensor) -> Tensor:
        """Attention [n, H, W] of maps [n, D, H, W]."""
        return weights((self.w @ maps.flatten(2)).unflatten(1, maps.shape[2:]))

    def forward(self, maps: Tensor) -> Tensor:
        """Image features [n, D]."""
        return pool(maps, self.look(maps))


def bag(features: Tensor) -> Tensor:
    """u: the mean [b, D] over the images of bags [b, B, D]. Such a bag misleads only if all its images are wrong."""
    return features.mean(1)
