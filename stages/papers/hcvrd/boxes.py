"""Boxes x1, y1, x2, y2 in pixels: overlap, union, geometry of a pair, jitter, and what a region of a map holds."""

import torch
from torch import Tensor
from torch.nn import functional as F

GEOMETRY = 7  # numbers that `geometry` gives


def area(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4]; 0 where a side is negative."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def union(one: Tensor, other: Tensor) -> Tensor:
    """The smallest boxes [..., 4] that hold both."""
    return torch.cat([torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])], -1)


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union [...] of boxes [..., 4] that broadcast; 0 where both have no area."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    return shared / (area(one) + area(other) - shared).clamp(min=1e-9)


def geometry(subject: Tensor, thing: Tensor, side: float) -> Tensor:
    """Spatial vector [n, 7] of pairs [n, 4]: dx / w_s, dy / h_s, log w_o / w_s, log h_o / h_s, overlap, both areas / image."""
    sizes = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0) for boxes in (subject, thing)]
    centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (subject, thing)]
    areas = [size.prod(1, keepdim=True) / side**2 for size in sizes]
    shift = (centres[1] - centres[0]) / sizes[0]
    return torch.cat([shift, (sizes[1] / sizes[0]).log(), overlap(subject, thing).unsqueeze(1), *areas], 1)


def jitter(boxes: Tensor, share: float, side: int, generator: torch.Generator) -> Tensor:
    """Boxes [n, 4] whose sides are moved by up to `share` of their length, inside the image, at least a pixel wide."""
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = boxes + share * size * (2 * torch.rand(boxes.shape, generator=generator) - 1)
    low = moved[:, :2].clamp(min=0, max=side - 1)
    return torch.cat([low, torch.maximum(moved[:, 2:].clamp(max=side), low + 1)], 1)


def align(maps: Tensor, boxes: Tensor, place: Tensor, size: int, samples: int = 2) -> Tensor:
    """RoI align (He et al. 2017, half-pixel corrected): [n, D, size, size] of boxes [n, 4] in the units of maps [N, D, H, W].

    place int64 [n]: the map of a box. Each cell averages samples x samples bilinear values; beyond the edge the edge's counts.
    """
    height, width = maps.shape[2:]
    steps = (torch.arange(size * samples, device=maps.device) + 0.5) / (size * samples)
    x = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * steps  # [n, size * samples]
    y = boxes[:, 1:2] + (boxes[:, 3:] - boxes[:, 1:2]) * steps
    # grid_sample's -1 and 1 are the outer edges of the map, as the boxes' 0 and width.
    grid = torch.stack(torch.broadcast_tensors(2 * x[:, None] / width - 1, 2 * y[:, :, None] / height - 1), -1)
    fine = F.grid_sample(maps[place], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(fine, samples) if samples > 1 else fine
