"""Captioned scenes: a handwritten digit somewhere on blocky noise, and the words that describe it.

Originals (handwritten digits) are divided before anything is composed, so that teacher, pre-training, labelled images and
evaluation never share one. Scenes are a generated data set; the digits in them are real.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.lib.data import AnySplit, Split, stratified
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed

if TYPE_CHECKING:
    from stages.papers.milan.settings import Scenes as Settings

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = (("top", "bottom"), ("left", "right"), ("thin", "thick"))
VOCABULARY = (*NAMES, *(word for pair in PLACES for word in pair))
LEVELS = 85.0  # scenes are stored as whole numbers 85 * (grey + 1), as the prepared digits are: alike on every machine
GREY = 0.5


@dataclass(frozen=True)
class Scenes:
    """Composed scenes.

    x: float32 [N, 1, S, S], normalised by constants; y: int64 [N], the digit; captions: int64 [N, 4], places of the words
    in VOCABULARY; boxes: int64 [N, 2], row and column of the digit's upper left pixel; originals: int64 [N].
    """

    x: Tensor
    y: Tensor
    captions: Tensor
    boxes: Tensor
    originals: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def numbered(self) -> Split:
        """The scenes as a split whose labels are the scenes' own numbers, so that a loss finds what belongs to them."""
        return Split(self.x, torch.arange(len(self)), (), (), (), "generated", "scenes")

    def labelled(self) -> Split:
        """The scenes as a split with the digits as labels."""
        return Split(self.x, self.y, NAMES, (), (), "generated", "scenes")


def divide(split: AnySplit, originals: dict[str, int]) -> dict[str, Split]:
    """Disjoint originals of each role, classes in equal shares, the same for all seeds. Raises StageError if too few."""
    for role, count in originals.items():
        if count < len(split.classes):
            raise StageError(
                f"params.scenes.originals.{role}={count}: expected one or more of each of {len(split.classes)} digits"
            )
    if sum(originals.values()) > len(split):
        raise StageError(f"params.scenes.originals: {dict(originals)} are more than the {len(split)} training images")
    index = stratified(split.y.numpy(), dict(originals), 0)
    return {role: split.take(torch.from_numpy(chosen)) for role, chosen in index.items()}


def ink(split: Split, side: int, floor: float) -> Tensor:
    """Digits [N, side, side] in [0, 1], enlarged; grey below `floor` counts as paper."""
    mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (split.mean, split.std))
    stored = split.x * std + mean  # as `stages.prepare.digits` encodes: (grey + 1) / 3
    grey = F.interpolate((3.0 * stored - 1.0).mean(1, keepdim=True), size=(side, side), mode="bilinear", align_corners=False)
    return ((grey[:, 0] - floor) / (1.0 - floor)).clamp(0.0, 1.0)


def compose(split: Split, count: int, settings: "Settings", repetition: int, role: str) -> Scenes:
    """`count` scenes of a role's originals, each original as often as the others, in places drawn for the repetition."""
    if count < len(split.classes):
        raise StageError(f"{count} scenes for {role}: too few; expected one or more of each of {len(split.classes)} digits")
    random = numpy.random.RandomState(derive_seed(repetition, "scenes", role) % 2**32)
    rounds = [random.permutation(len(split)) for _ in range(-(-count // len(split)))]
    chosen = numpy.concatenate(rounds)[:count]
    room = settings.canvas - settings.digit
    boxes = settings.grid * random.randint(0, room // settings.grid + 1, (count, 2))
    cells = -(-settings.canvas // settings.cell)
    noise = random.normal(0.0, settings.noise, (count, cells, cells)).repeat(settings.cell, 1).repeat(settings.cell, 2)
    canvas = GREY + noise[:, : settings.canvas, : settings.canvas]
    digits = ink(split, settings.digit, settings.floor)
    for image, number, (row, column) in zip(canvas, chosen, boxes, strict=True):
        image[row : row + settings.digit, column : column + settings.digit] += settings.contrast * digits[number].numpy()
    stored = numpy.clip(numpy.rint(LEVELS * (canvas + 1.0)), 0, 255)
    x = torch.from_numpy(stored / LEVELS - 1.0 - GREY).float().unsqueeze(1) / settings.scale
    labels = split.y[torch.from_numpy(chosen)]
    strokes = digits.mean((1, 2))
    thick = (strokes > strokes.median())[torch.from_numpy(chosen)]
    return Scenes(
        x, labels, captions(labels, torch.from_numpy(boxes), thick, room), torch.from_numpy(boxes), torch.from_numpy(chosen)
    )


def captions(labels: Tensor, boxes: Tensor, thick: Tensor, room: int) -> Tensor:
    """Words [N, 4] of scenes: the digit's name, its vertical and horizontal half, the thickness of its strokes."""
    halves = (2 * boxes > room).long()  # the digit's centre lies below or right of the canvas's
    start = len(NAMES)
    return torch.stack([labels, start + halves[:, 0], start + 2 + halves[:, 1], start + 4 + thick.long()], 1)


def foreground(boxes: Tensor, digit: int, canvas: int, patch: int) -> Tensor:
    """Whether at least half of a patch lies in the digit's box: bool [N, patches], raster order."""
    edges = torch.arange(0, canvas, patch)
    inside = [
        (torch.minimum(edges + patch, start + digit) - torch.maximum(edges, start)).clamp(min=0)
        for start in (boxes[:, :1], boxes[:, 1:])
    ]
    area = inside[0].unsqueeze(2) * inside[1].unsqueeze(1)
    return (2 * area >= patch * patch).flatten(1)
