"""The discrete net of a genotype, for small images and for ImageNet, with drop-path and an auxiliary head.

Liu et al. 2019 (DARTS) and its code, model.py; EoiNAS and CLOSE train theirs in the same way.
"""

from typing import Any

import torch
from torch import Tensor, nn

from stages.lib.darts.genotype import Edge, Genotype, parse
from stages.lib.darts.geometry import operation_layers, preprocess_layers
from stages.lib.darts.operations import operation, preprocess
from stages.lib.darts.plan import STEMS, CellPlan, cell_plans, reductions, stem_canvas
from stages.lib.errors import StageError
from stages.lib.models import checks
from stages.lib.models.base import Net, register
from stages.lib.models.geometry import Layer
from stages.lib.models.sites import Site

AUXILIARY_STRIDE = {"cifar": 3, "imagenet": 2}
KEYS = {"kind", "input", "classes", "genotype", "cells", "channels", "stem", "auxiliary"}


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Sets whole samples of x [N, C, H, W] to zero with a probability below 1 and scales the others to keep the mean."""
    keep = 1.0 - probability
    mask = (torch.rand(len(x), 1, 1, 1) < keep).to(x)  # drawn on the CPU, so that every device drops the same
    return x / keep * mask


def make_stem(stem: str, inputs: int, channels: int) -> tuple[nn.Sequential, nn.Sequential | None]:
    """The stem for small images and None, or ImageNet's two, of which the second follows on the first."""
    if stem == "cifar":
        return nn.Sequential(nn.Conv2d(inputs, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)), None
    first = nn.Sequential(
        nn.Conv2d(inputs, channels // 2, 3, 2, 1, bias=False),
        nn.BatchNorm2d(channels // 2),
        nn.ReLU(),
        nn.Conv2d(channels // 2, channels, 3, 2, 1, bias=False),
        nn.BatchNorm2d(channels),
    )
    second = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels))
    return first, second


class Cell(nn.Module):
    """One discrete cell: two preprocessed inputs, nodes that sum two edges each, all nodes concatenated.

    `affine` and `pool_norm` are those of `operation`; the defaults are for training a found cell.
    """

    def __init__(self, plan: CellPlan, pairs: tuple[Edge, ...], affine: bool = True, pool_norm: bool = False) -> None:
        super().__init__()
        self.preprocess_0 = preprocess(plan.first, plan.channels, plan.halve, affine)
        self.preprocess_1 = preprocess(plan.second, plan.channels, False, affine)
        self.sources = [source for _, source in pairs]
        self.edges = nn.ModuleList(
            operation(op, plan.channels, 2 if plan.reduction and source < 2 else 1, affine, pool_norm) for op, source in pairs
        )

    def forward(self, first: Tensor, second: Tensor, drop: float = 0.0) -> Tensor:
        """[N, nodes * channels, H, W] from the outputs of the two cells before; `drop`: the probability of drop-path."""
        states = [self.preprocess_0(first), self.preprocess_1(second)]
        for start in range(0, len(self.edges), 2):
            states.append(sum(self._edge(index, states, drop) for index in (start, start + 1)))
        return torch.cat(states[2:], dim=1)

    def _edge(self, index: int, states: list[Tensor], drop: float) -> Tensor:
        module = self.edges[index]
        found = module(states[self.sources[index]])
        if self.training and drop > 0.0 and not isinstance(module, nn.Identity):
            found = drop_path(found, drop)
        return found


class AuxiliaryHead(nn.Module):
    """A second classifier on the output [N, inputs, H, W] of the cell at two thirds, which helps training."""

    def __init__(self, inputs: int, classes: int, stride: int, final_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReLU(), nn.AvgPool2d(5, stride, count_include_pad=False), nn.Conv2d(inputs, 128, 1, bias=False),
            nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 768, 2, bias=False),
        ]  # fmt: skip
        # DARTS's ImageNet head lacks the last normalisation, by an oversight that its results rest on.
        layers += [nn.BatchNorm2d(768)] if final_norm else []
        self.features = nn.Sequential(*layers, nn.ReLU())
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes]."""
        return self.classifier(self.features(x).mean((2, 3)))


@register
class DartsNet(Net):
    """A stem, a row of `cells` cells with reductions at a third and two thirds, global average pooling, a linear map.

    Record: `{kind, input: [C,H,W], classes, genotype, cells, channels, stem: cifar | imagenet, auxiliary}`. `drop` is the
    present probability of drop-path, which whoever trains the net sets. Module paths: `stem`, `stem_1`, `blocks.<i>`, `fc`.
    """

    kind = "darts"
    called = ("both",)  # by the loss, in place of forward

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        self.drop = 0.0
        genotype = parse(record["genotype"])
        plans = _plans(record)
        self.stem, self.stem_1 = make_stem(record["stem"], record["input"][0], record["channels"])
        self.blocks = nn.ModuleList(Cell(plan, genotype.cell(plan.reduction)) for plan in plans)
        self.tapped = reductions(record["cells"])[1]
        self.auxiliary = None
        if record["auxiliary"]:
            width, small = genotype.nodes * plans[self.tapped].channels, record["stem"] == "cifar"
            self.auxiliary = AuxiliaryHead(width, record["classes"], AUXILIARY_STRIDE[record["stem"]], final_norm=small)
        self.fc = nn.Linear(genotype.nodes * plans[-1].channels, record["classes"])

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, C, H, W]."""
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits [N, classes] of the net and, in train mode, of its auxiliary head if it has one."""
        first = self.stem(x)
        second = first if self.stem_1 is None else self.stem_1(first)
        side = None
        for index, cell in enumerate(self.blocks):
            first, second = second, cell(first, second, self.drop)
            if index == self.tapped and self.auxiliary is not None and self.training:
                side = self.auxiliary(second)
        return self.head(second), side

    def head(self, h: Tensor) -> Tensor:
        """Logits [N, classes] from the last cell's output."""
        return self.fc(h.mean((2, 3)))

    def sites(self) -> list[Site]:
        """None: widths of this space are not pruned."""
        return []

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        checks.keys(record, KEYS, "record")
        checks.integers(record["input"], "input", (3,))
        checks.integer(record["classes"], "classes")
        checks.integer(record["cells"], "cells", 2)
        checks.integer(record["channels"], "channels", 2)
        checks.boolean(record["auxiliary"], "auxiliary")
        if record["stem"] not in STEMS:
            raise checks.refuse("stem", " or ".join(STEMS), record["stem"])
        parse(record["genotype"])
        side, stride = min(_plans(record)[reductions(record["cells"])[1]].output_sides), AUXILIARY_STRIDE[record["stem"]]
        if record["auxiliary"] and side < 5 + stride:
            raise checks.refuse("auxiliary", f"false where a side of {side} is left, the head needs {5 + stride}", True)

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer but those of the auxiliary head, which is not part of the final net."""
        genotype, plans = parse(record["genotype"]), _plans(record)
        found = stem_canvas(record["stem"], record["input"], record["channels"]).layers
        for index, plan in enumerate(plans):
            found += _cell_layers(f"blocks.{index}", plan, genotype.cell(plan.reduction))
        return [*found, Layer("fc", "linear", genotype.nodes * plans[-1].channels, record["classes"], bias=True)]

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """Raises StageError: the net has no prunable sites."""
        raise StageError("a net of the DARTS space has no prunable channels; choose another net")


def _plans(record: dict) -> list[CellPlan]:
    canvas = stem_canvas(record["stem"], record["input"], record["channels"])
    nodes = len(record["genotype"]["normal"]) // 2
    return cell_plans(record["cells"], record["channels"], nodes, record["stem"], (canvas.height, canvas.width))


def _cell_layers(name: str, plan: CellPlan, pairs: tuple[Edge, ...]) -> list[Layer]:
    sides = plan.sides
    before = (2 * sides[0], 2 * sides[1]) if plan.halve else sides
    found = preprocess_layers(f"{name}.preprocess_0", plan.first, plan.channels, plan.halve, before)
    found += preprocess_layers(f"{name}.preprocess_1", plan.second, plan.channels, False, sides)
    for index, (op, source) in enumerate(pairs):
        stride, place = (2, sides) if plan.reduction and source < 2 else (1, plan.output_sides)
        found += operation_layers(op, f"{name}.edges.{index}", plan.channels, stride, place)
    return found


def darts_record(
    genotype: Genotype, cells: int, channels: int, image: list[int], classes: int, stem: str = "cifar", auxiliary: bool = False
) -> dict[str, Any]:
    """The checked record of a net for images [C, H, W] of `image`; `stages.lib.models.build` makes the net."""
    record = {
        "kind": DartsNet.kind, "input": list(image), "classes": classes, "genotype": genotype.record(), "cells": cells,
        "channels": channels, "stem": stem, "auxiliary": auxiliary,
    }  # fmt: skip
    DartsNet.check(record)
    return record
