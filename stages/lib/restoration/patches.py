"""Random batches of patches from photographs. All that is random comes from the generator given, so that a training that
saves the generator's state goes on as if it had not stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy
import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.restoration.ensemble import TURNS, turn
from stages.lib.restoration.sets import Pair, Photograph, tensor

Item = TypeVar("Item")


class CleanPatches:
    """Square patches of clean photographs. Raises StageError naming a photograph that is smaller than a patch."""

    def __init__(self, photographs: Sequence[Photograph], size: int, augment: bool = True) -> None:
        self.photographs, self.size, self.augment = list(photographs), size, augment
        _check(((image.name, image.pixels) for image in self.photographs), size)

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """float32 [batch, 3, size, size] in 0..255: a photograph, a place and (with augment) one of 8 turns each."""
        found = []
        for image in _draw(self.photographs, batch, generator):
            top, left = _place(image.pixels, self.size, generator)
            patch = tensor(image.pixels[top : top + self.size, left : left + self.size])
            found.append(turn(patch, _way(self.augment, generator)))
        return torch.stack(found)


class PairedPatches:
    """Patches of corrupted photographs with the clean ones of the same place; size counts pixels of the corrupted ones.

    Raises StageError naming a photograph that is smaller than a patch, or if the pairs differ in scale.
    """

    def __init__(self, pairs: Sequence[Pair], size: int, augment: bool = True) -> None:
        self.pairs, self.size, self.augment = list(pairs), size, augment
        _check(((pair.name, pair.corrupted) for pair in self.pairs), size)
        factors = {pair.factor for pair in self.pairs}
        if len(factors) != 1:
            raise StageError(f"pairs of scales {sorted(factors)} in one batch; expected pairs of one scale")
        (self.factor,) = factors

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """float32 ([batch, 3, size, size], [batch, 3, size factor, size factor]) in 0..255, turned alike."""
        corrupted, clean = [], []
        for pair in _draw(self.pairs, batch, generator):
            top, left = _place(pair.corrupted, self.size, generator)
            way = _way(self.augment, generator)
            for pixels, factor, found in ((pair.corrupted, 1, corrupted), (pair.clean, self.factor, clean)):
                y, x, side = top * factor, left * factor, self.size * factor
                found.append(turn(tensor(pixels[y : y + side, x : x + side]), way))
        return torch.stack(corrupted), torch.stack(clean)


def _check(images: Iterable[tuple[str, numpy.ndarray]], size: int) -> None:
    name = None
    for name, pixels in images:
        height, width = pixels.shape[:2]
        if min(height, width) < size:
            raise StageError(
                f"{name}: {width} x {height} pixels, smaller than a patch of {size}; leave it out or lower the size"
            )
    if name is None:
        raise StageError("no photograph to take patches from; expected one or more")


def _draw(items: Sequence[Item], batch: int, generator: torch.Generator) -> list[Item]:
    return [items[place] for place in torch.randint(len(items), (batch,), generator=generator).tolist()]


def _place(pixels: numpy.ndarray, size: int, generator: torch.Generator) -> tuple[int, int]:
    rooms = (side - size + 1 for side in pixels.shape[:2])
    top, left = (int(torch.randint(room, (), generator=generator)) for room in rooms)
    return top, left


def _way(augment: bool, generator: torch.Generator) -> int:
    return int(torch.randint(TURNS, (), generator=generator)) if augment else 0
