"""Images on a larger canvas: much of it is background, so that many tokens say little."""

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib.data import AnySplit, Split, stratified
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed

if TYPE_CHECKING:
    from stages.papers.multi_dimensional_vit_compression.settings import Images

PIECE = 4  # side of the pieces of other images
FAINT = 0.7  # their brightness


def divide(split: AnySplit, held_out: int) -> tuple[Split, Split]:
    """(images to train on, images to score candidates on), classes in equal shares, the same for all seeds."""
    if not held_out < len(split):
        raise StageError(f"params.images.held_out={held_out}: expected fewer than the {len(split)} training images")
    index = stratified(split.y.numpy(), {"fit": len(split) - held_out, "held_out": held_out}, 0)
    return split.take(torch.from_numpy(index["fit"])), split.take(torch.from_numpy(index["held_out"]))


def placed(split: Split, settings: "Images", purpose: str) -> Split:
    """Every image `copies` times at a random place of a noisy background, with pieces of other images of this split.

    Places and noise follow from `purpose` alone. An image that fills the canvas stays as it is. Raises StageError where
    the canvas is smaller than the image.
    """
    count, channels, height, width = split.x.shape
    if settings.side < max(height, width):
        raise StageError(f"params.images.side={settings.side}: expected at least the images' {height} x {width} pixels")
    if settings.side == height == width and not settings.clutter:
        return split
    generator = torch.Generator().manual_seed(derive_seed(0, "canvas", purpose))
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (split.mean, split.std))
    pixels = split.x * std + mean
    shape = (count * settings.copies, channels, settings.side, settings.side)
    canvas = (settings.noise * torch.randn(shape, generator=generator)).clamp(0.0, 1.0)
    for i, own in enumerate(canvas):
        for _ in range(settings.clutter):
            other = int(torch.randint(count, (1,), generator=generator))
            piece = FAINT * _piece(pixels[other], generator)
            _paste(own, piece, *(_within(0, settings.side - length, generator) for length in piece.shape[1:]))
        middle = ((settings.side - length) // 2 for length in (height, width))
        place = (_within(max(0, at - settings.shift), min(2 * at, at + settings.shift), generator) for at in middle)
        _paste(own, pixels[i % count], *place)
    return dataclasses.replace(split, x=(canvas - mean) / std, y=split.y.repeat(settings.copies))


def _piece(image: Tensor, generator: torch.Generator) -> Tensor:
    """A square of an image [C, H, W]."""
    side = min(PIECE, *image.shape[1:])
    top, left = (_within(0, length - side, generator) for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def _within(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from low to high."""
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def _paste(canvas: Tensor, image: Tensor, top: int, left: int) -> None:
    """Put an image [C, h, w] on the canvas [C, H, W]."""
    canvas[:, top : top + image.shape[1], left : left + image.shape[2]] = image
