"""Batches: slices with and without lesions, sub-volumes on lesions and anywhere; flips, turns, contrast."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stages.lib.errors import StageError
from stages.papers.covsegnet.settings import Fit

Draw = Callable[[torch.Generator], tuple[Tensor, Tensor]]


def pick(count: int, below: int, generator: torch.Generator) -> list[int]:
    """Numbers below a bound, with repeats."""
    return torch.randint(below, (count,), generator=generator).tolist()


def slices(images: Sequence[Tensor], masks: Sequence[Tensor], fit: Fit) -> Draw:
    """Draws x and y [B, 1, H, W] from volumes [D, H, W]: `lesion` slices with a lesion, `other` without.

    Where all slices have one, the others are drawn from those. Raises StageError where volumes differ in size.
    """
    if len({one.shape[1:] for one in images}) > 1:
        raise StageError("scans differ in rows or columns; set params.side of the prepare stage")
    x, y = torch.cat(list(images))[:, None], torch.cat(list(masks))[:, None].ne(0)
    ill = y.flatten(1).any(1)
    with_lesion = ill.nonzero()[:, 0]
    without = (~ill).nonzero()[:, 0] if not bool(ill.all()) else with_lesion
    if not len(with_lesion):
        raise StageError("no slice of the training scans has a lesion; use more scans or fewer folds")

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = [with_lesion[pick(fit.lesion, len(with_lesion), generator)], without[pick(fit.other, len(without), generator)]]
        index = torch.cat(chosen)
        return varied(x[index], y[index].to(torch.float32), fit, generator)

    return draw


def subvolumes(inputs: Sequence[Tensor], masks: Sequence[Tensor], patch: Sequence[int], fit: Fit) -> Draw:
    """Draws x [B, C, d, h, w] and y [B, 1, d, h, w] from inputs [C, D, H, W] and masks [D, H, W].

    `lesion` of them centred on a voxel of a lesion as far as the volume allows, `other` anywhere. A patch is at most as
    large as the smallest volume.
    """
    size = [min(want, *(one.shape[axis] for one in masks)) for axis, want in enumerate(patch)]
    targets = [one.ne(0) for one in masks]
    voxels = [one.nonzero() for one in targets]
    ill = [i for i, found in enumerate(voxels) if len(found)]
    if not ill:
        raise StageError("no training scan has a lesion; use more scans")

    def cut(i: int, corner: Sequence[int]) -> tuple[Tensor, Tensor]:
        place = tuple(slice(at, at + length) for at, length in zip(corner, size, strict=True))
        return inputs[i][(slice(None), *place)], targets[i][place][None]

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        found = []
        for i in (ill[place] for place in pick(fit.lesion, len(ill), generator)):
            centre = voxels[i][pick(1, len(voxels[i]), generator)[0]].tolist()
            room = [have - want for have, want in zip(targets[i].shape, size, strict=True)]
            corner = [min(max(at - want // 2, 0), most) for at, want, most in zip(centre, size, room, strict=True)]
            found.append(cut(i, corner))
        for i in pick(fit.other, len(targets), generator):
            room = [have - want for have, want in zip(targets[i].shape, size, strict=True)]
            found.append(cut(i, [pick(1, most + 1, generator)[0] for most in room]))
        x, y = (torch.stack([pair[side] for pair in found]) for side in (0, 1))
        return varied(x, y.to(torch.float32), fit, generator)

    return draw


# --- variation ------------------------------------------------------------------------------------


def varied(x: Tensor, y: Tensor, fit: Fit, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flips (a whole batch at once), rotation and zoom in the plane, contrast and brightness of the first channel."""
    axes = [axis for axis in range(2, x.ndim) if torch.rand(1, generator=generator).item() < 0.5]
    x, y = x.flip(axes), y.flip(axes)
    if fit.rotation or fit.zoom:
        x, y = turned(x, y, fit, generator)
    if not fit.jitter:
        return x, y
    change = fit.jitter * (2 * torch.rand(2, len(x), *[1] * (x.ndim - 1), generator=generator) - 1)
    first = x[:, :1] * (1 + change[0]) + change[1] / 2
    return torch.cat([first, x[:, 1:]], 1), y


def turned(x: Tensor, y: Tensor, fit: Fit, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Both rotated and zoomed alike, example by example; y stays 0 or 1. What comes from outside is 0."""
    draws = 2 * torch.rand(2, len(x), generator=generator) - 1
    angle, zoom = draws[0] * math.radians(fit.rotation), 1 + draws[1] * fit.zoom
    cos, sin, zero = angle.cos() * zoom, angle.sin() * zoom, torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    both = torch.cat([x, y], 1)
    flat = both.flatten(1, -3)  # slices of a volume turn together
    grid = functional.affine_grid(matrix, list(flat.shape), align_corners=False)
    done = functional.grid_sample(flat, grid, align_corners=False).view_as(both)
    return done[:, : x.shape[1]], (done[:, x.shape[1] :] > 0.5).to(y.dtype)
