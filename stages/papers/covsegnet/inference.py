"""Probabilities of whole volumes: slice by slice, and by a sliding window with Gaussian weights."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BATCH = 64  # slices at once
SIGMA = 0.25  # deviation of a window's weights, as a share of its length


@torch.no_grad()
def by_slices(net: nn.Module, image: Tensor, device: torch.device) -> Tensor:
    """P [D, H, W] on the CPU by a net of slices, in eval mode."""
    net.to(device).eval()
    parts = [net(part[:, None].to(device)).sigmoid()[:, 0].cpu() for part in image.split(BATCH)]
    return torch.cat(parts)


def starts(length: int, window: int, overlap: float) -> list[int]:
    """First places of windows that cover a length; the last one ends with it."""
    step = max(1, int(window * (1 - overlap)))
    return [*range(0, length - window, step), length - window]


def bell(size: Sequence[int]) -> Tensor:
    """Weights of a window, above 0, largest in its middle."""
    weight = torch.ones(())
    for length in size:
        place = torch.arange(length, dtype=torch.float32) - (length - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (place / (SIGMA * length)) ** 2)
    return weight


@torch.no_grad()
def by_windows(net: nn.Module, x: Tensor, patch: Sequence[int], overlap: float, device: torch.device) -> Tensor:
    """P [D, H, W] on the CPU of x [C, D, H, W]: weighted mean of all windows that cover a voxel.

    A patch larger than the volume is cut to it; one window that covers all gives the net's own answer.
    """
    net.to(device).eval()
    size = [min(want, have) for want, have in zip(patch, x.shape[1:], strict=True)]
    weight = bell(size)
    total, weights = torch.zeros(x.shape[1:]), torch.zeros(x.shape[1:])
    for corner in itertools.product(*(starts(have, want, overlap) for have, want in zip(x.shape[1:], size, strict=True))):
        place = tuple(slice(at, at + length) for at, length in zip(corner, size, strict=True))
        found = net(x[(slice(None), *place)][None].to(device)).sigmoid()[0, 0].cpu()
        total[place] += weight * found
        weights[place] += weight
    return total / weights


def enhanced(image: Tensor, p: Tensor, mode: str) -> Tensor:
    """The ROI-enhanced volume [C, D, H, W]: [V, P] for `both`, V P for `product`, V (1 + P) / 2 for `raised`."""
    if mode == "both":
        return torch.stack([image, p])
    return (image * p if mode == "product" else image * (1 + p) / 2)[None]


def channels(mode: str) -> int:
    """Channels of the enhanced volume."""
    return 2 if mode == "both" else 1
