"""Augmentation of pre-training batches: random resized crops, mirroring and colour jitter, on tensors."""

import torch
from torch import Tensor
from torch.nn import functional

from stages.lib.training import Augment
from stages.papers.dependency_maximization_fsl.settings import Recipe

RATIO = (3 / 4, 4 / 3)  # of a crop's sides
GREY = (0.299, 0.587, 0.114)  # ITU-R 601 luma


def centre(x: Tensor, side: int) -> Tensor:
    """The middle `side` x `side` pixels of images (N, C, H, W)."""
    top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
    return x[:, :, top : top + side, left : left + side]


def augmentation(recipe: Recipe, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Augment | None:
    """A function of (normalised images (N, C, H, W), generator) to images of `side` pixels; None to leave them alone."""
    if recipe.crop == 1 and not recipe.flip and not recipe.jitter:
        return None

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        x = resized_crop(x, side, recipe.crop, recipe.flip, generator)
        return jittered(x, recipe.jitter, mean, std, generator) if recipe.jitter else x

    return augment


def resized_crop(x: Tensor, side: int, least: float, flip: bool, generator: torch.Generator) -> Tensor:
    """A crop of each image with a share `least` .. 1 of its area, at random place and aspect, half of them mirrored."""
    count = len(x)
    area, aspect, row, column, coin = torch.rand(5, count, generator=generator)
    area = least + (1 - least) * area
    low, high = (torch.tensor(value).log() for value in RATIO)
    ratio = (low + (high - low) * aspect).exp() if least < 1 else torch.ones(count)
    height, width = (area / ratio).sqrt().clamp_max(1), (area * ratio).sqrt().clamp_max(1)
    mirrored = torch.where(coin < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirrored, height
    theta[:, 0, 2], theta[:, 1, 2] = (2 * column - 1) * (1 - width), (2 * row - 1) * (1 - height)
    grid = functional.affine_grid(theta.to(x), [count, x.shape[1], side, side], align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jittered(x: Tensor, most: float, mean: tuple[float, ...], std: tuple[float, ...], generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation of normalised images, each multiplied by 1 - most .. 1 + most."""
    moments = [torch.tensor(value, dtype=x.dtype, device=x.device).view(1, -1, 1, 1) for value in (mean, std)]
    pixels = x * moments[1] + moments[0]
    factors = 1 + most * (2 * torch.rand(3, len(x), 1, 1, 1, generator=generator) - 1).to(x)
    pixels = (pixels * factors[0]).clamp(0, 1)
    grey = _grey(pixels)
    pixels = (grey.mean((2, 3), keepdim=True) * (1 - factors[1]) + pixels * factors[1]).clamp(0, 1)
    pixels = (_grey(pixels) * (1 - factors[2]) + pixels * factors[2]).clamp(0, 1)
    return (pixels - moments[0]) / moments[1]


def _grey(pixels: Tensor) -> Tensor:
    if pixels.shape[1] != len(GREY):
        return pixels.mean(1, keepdim=True)
    return (pixels * torch.tensor(GREY, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
