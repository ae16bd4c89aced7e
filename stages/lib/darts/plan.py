"""The row of cells of a net in the DARTS space, for the net that searches and the one that is trained: widths and sides."""

from dataclasses import dataclass

from stages.lib.darts.geometry import halved
from stages.lib.models.geometry import Canvas

STEMS = ("cifar", "imagenet")
STEM_WIDTH = 3  # the stem for small images has 3 C channels


@dataclass(frozen=True)
class CellPlan:
    """One cell: channels of its two inputs, its own, sides of its second input; the first one's are doubled if `halve`."""

    first: int
    second: int
    channels: int
    reduction: bool
    halve: bool  # the cell before was a reduction, so the first input is twice as large as the second
    sides: tuple[int, int]

    @property
    def output_sides(self) -> tuple[int, int]:
        """Sides of the cell's output."""
        return halved(self.sides) if self.reduction else self.sides


def reductions(cells: int) -> tuple[int, int]:
    """Places of the two reduction cells, at a third and two thirds of the row."""
    return cells // 3, 2 * cells // 3


def stem_canvas(stem: str, image: list[int], channels: int) -> Canvas:
    """The layers of the stem for images [C, H, W] of `image`, and the sides that the second stem output has."""
    canvas = Canvas(*image[1:])
    if stem == "cifar":
        canvas.conv("stem.0", image[0], STEM_WIDTH * channels, 3)
        canvas.norm("stem.1", STEM_WIDTH * channels)
        return canvas
    canvas.conv("stem.0", image[0], channels // 2, 3, 2)
    canvas.norm("stem.1", channels // 2)
    canvas.conv("stem.3", channels // 2, channels, 3, 2)
    canvas.norm("stem.4", channels)
    canvas.conv("stem_1.1", channels, channels, 3, 2)
    canvas.norm("stem_1.2", channels)
    return canvas


def cell_plans(cells: int, channels: int, nodes: int, stem: str, sides: tuple[int, int]) -> list[CellPlan]:
    """The cells in order; `sides` are those of the stem's (second) output, the width doubles at every reduction."""
    small = stem == "cifar"
    first = second = STEM_WIDTH * channels if small else channels
    plans: list[CellPlan] = []
    width, halve = channels, not small  # the ImageNet stem's two outputs differ in size, like those around a reduction
    for index in range(cells):
        reduction = index in reductions(cells)
        width = 2 * width if reduction else width
        plans.append(CellPlan(first, second, width, reduction, halve, sides))
        first, second, halve, sides = second, nodes * width, reduction, plans[-1].output_sides
    return plans
