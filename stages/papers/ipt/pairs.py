"""Pairs of corrupted and clean patches, made while training: every batch follows from the repetition and the step alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.restoration.degrade import add_noise, add_rain, downscale
from stages.lib.restoration.ensemble import TURNS, turn
from stages.lib.restoration.patches import PairedPatches
from stages.lib.restoration.sets import Photograph, tensor
from stages.lib.runtime import derive_seed
from stages.papers.ipt.tasks import Task, task

if TYPE_CHECKING:
    import numpy


class Pool(Protocol):
    """Clean photographs, held in memory or read from their files when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> Photograph: ...


class Drawer(Protocol):
    """Gives the batch of a step: (task, corrupted [B, 3, s, s], clean [B, 3, s scale, s scale]), float32 in 0..255."""

    def batch(self, step: int, count: int) -> tuple[str, Tensor, Tensor]: ...


class Synthesis:
    """Pre-training pairs: each step draws one task, and corrupts patches of clean photographs by it.

    `side` is the side of the corrupted patches; clean ones are larger by the task's scale. Streak images are the rain's
    own layers, uint8 [H, W, 3].
    """

    def __init__(self, pool: Pool, streaks: Sequence[Photograph], tasks: Sequence[str], side: int, repetition: int) -> None:
        if not len(pool):
            raise StageError("there is no photograph to train on; expected one or more")
        if "derain" in tasks and not streaks:
            raise StageError("task derain: there is no image of rain streaks; put the rain set's into data/ and prepare it")
        self.pool, self.streaks, self.tasks, self.side, self.repetition = pool, streaks, tuple(tasks), side, repetition

    def batch(self, step: int, count: int) -> tuple[str, Tensor, Tensor]:
        """The batch of a step."""
        generator = generator_of(self.repetition, step)
        wanted = task(self.tasks[int(torch.randint(len(self.tasks), (), generator=generator))])
        clean = patches(self.pool, wanted.scale * self.side, count, generator)
        return wanted.name, corrupt(clean, wanted, self.streaks, generator), clean


class Paired:
    """Fine-tuning pairs from corrupted photographs that lie beside the clean ones."""

    def __init__(self, source: PairedPatches, name: str, repetition: int) -> None:
        if source.factor != task(name).scale:
            raise StageError(f"task {name}: pairs of scale {source.factor}, expected {task(name).scale}")
        self.source, self.name, self.repetition = source, name, repetition

    def batch(self, step: int, count: int) -> tuple[str, Tensor, Tensor]:
        """The batch of a step."""
        return self.name, *self.source.draw(count, generator_of(self.repetition, step))


def generator_of(repetition: int, step: int) -> torch.Generator:
    """Draws of a step's batch; the same for all arms, and after a resume."""
    return torch.Generator().manual_seed(derive_seed(repetition, "batch", step))


def corrupt(clean: Tensor, wanted: Task, streaks: Sequence[Photograph], generator: torch.Generator) -> Tensor:
    """Corrupted copies of clean patches [B, 3, H, W]: bicubic reduction, rain or noise (the noisy ones are not rounded)."""
    if wanted.kind == "sr":
        return downscale(clean, wanted.scale)
    if wanted.kind == "denoise":
        return add_noise(clean, wanted.sigma, generator)
    rain = torch.stack([patch(item, clean.shape[2], generator)[0] for item in drawn(streaks, len(clean), generator)])
    return add_rain(clean, rain)  # one layer, added equally to the three colours


def patches(pool: Pool, side: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` patches float32 [count, 3, side, side]: a photograph, a place and one of eight turns each."""
    found = []
    for photograph in drawn(pool, count, generator):
        way = int(torch.randint(TURNS, (), generator=generator))
        found.append(turn(patch(photograph, side, generator), way))
    return torch.stack(found)


def drawn(pool: Pool, count: int, generator: torch.Generator) -> list[Photograph]:
    """`count` photographs, drawn with equal chances."""
    return [pool[place] for place in torch.randint(len(pool), (count,), generator=generator).tolist()]


def patch(photograph: Photograph, side: int, generator: torch.Generator) -> Tensor:
    """float32 [3, side, side] from a random place; sides that are too short are enlarged bilinearly to the patch."""
    height, width = (max(side, length) for length in photograph.size)
    top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in (height, width))
    if (height, width) == photograph.size:
        return tensor(photograph.pixels[top : top + side, left : left + side])
    return enlarged(photograph.pixels, height, width)[:, top : top + side, left : left + side]


def enlarged(pixels: "numpy.ndarray", height: int, width: int) -> Tensor:
    """uint8 [h, w, 3] resized bilinearly to float32 [3, height, width], rounded to 8 bits."""
    wide = torch.nn.functional.interpolate(tensor(pixels)[None], (height, width), mode="bilinear", align_corners=False)
    return wide[0].round()
