"""The net that holds every candidate operation on every edge, and gives up one operation an edge at a time (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.lib.darts import OPERATIONS, operation, preprocess
from stages.lib.darts.genotype import CELLS, INPUTS
from stages.lib.darts.geometry import operation_layers, preprocess_layers
from stages.lib.darts.network import make_stem
from stages.lib.darts.plan import CellPlan, cell_plans, stem_canvas
from stages.papers.eoinas.noise import NOISE, Noise

Kept = dict[str, list[list[str]]]  # names of the operations left, by cell type ("normal", "reduce") and edge


@dataclass(frozen=True)
class Space:
    """What is searched: sizes of the net and the candidates of every edge."""

    image: tuple[int, int, int]
    classes: int
    operations: tuple[str, ...]
    nodes: int
    cells: int
    channels: int
    stem: str
    dense: bool  # logits for every pixel (segmentation) instead of one a picture

    @property
    def edges(self) -> int:
        """Edges of a cell: node i (from 0) has i + 2 predecessors."""
        return sum(range(INPUTS, INPUTS + self.nodes))

    def whole(self) -> Kept:
        """Every operation on every edge."""
        return {name: [list(self.operations) for _ in range(self.edges)] for name in CELLS}

    def plans(self) -> list[CellPlan]:
        """The row of cells."""
        canvas = stem_canvas(self.stem, list(self.image), self.channels)
        return cell_plans(self.cells, self.channels, self.nodes, self.stem, (canvas.height, canvas.width))


def sources(nodes: int) -> list[int]:
    """Predecessor of every edge: 0 1 | 0 1 2 | 0 1 2 3 | ..."""
    return [source for node in range(nodes) for source in range(node + INPUTS)]


def cell_name(reduction: bool) -> str:
    """The key of a cell type."""
    return CELLS[1] if reduction else CELLS[0]


def candidate(name: str, channels: int, stride: int) -> nn.Module:
    """A candidate while searching: batch normalisations learn nothing, pools are normalised."""
    return Noise(stride) if name == NOISE else operation(name, channels, stride, affine=False, pool_norm=True)


class MixedEdge(nn.Module):
    """The operations left on one edge; answers their weighted sum."""

    def __init__(self, names: list[str], channels: int, stride: int) -> None:
        super().__init__()
        self.ops = nn.ModuleDict({name: candidate(name, channels, stride) for name in names})

    def forward(self, x: Tensor, weights: Tensor, dropout: float) -> Tensor:
        """sum_o weights[o] o(x); `dropout` is that of single entries of the skip connection's outcome."""
        found = []
        for weight, (name, module) in zip(weights, self.ops.items(), strict=True):
            outcome = module(x)
            if name == "skip_connect" and self.training and dropout > 0.0:
                outcome = nn.functional.dropout(outcome, dropout)
            found.append(weight * outcome)
        return sum(found)


class MixedCell(nn.Module):
    """A cell in which every node sums all its predecessors' mixed edges."""

    def __init__(self, plan: CellPlan, kept: list[list[str]], nodes: int) -> None:
        super().__init__()
        self.sources, self.nodes = sources(nodes), nodes
        self.name = cell_name(plan.reduction)
        self.preprocess_0 = preprocess(plan.first, plan.channels, plan.halve, affine=False)
        self.preprocess_1 = preprocess(plan.second, plan.channels, False, affine=False)
        self.edges = nn.ModuleList(
            MixedEdge(names, plan.channels, 2 if plan.reduction and source < INPUTS else 1)
            for names, source in zip(kept, self.sources, strict=True)
        )

    def forward(self, first: Tensor, second: Tensor, weights: Tensor, dropout: float) -> Tensor:
        """[N, nodes * channels, H, W]; `weights` [edges, operations left]."""
        states = [self.preprocess_0(first), self.preprocess_1(second)]
        edge = 0
        for node in range(self.nodes):
            count = node + INPUTS
            states.append(sum(self.edges[edge + i](states[i], weights[edge + i], dropout) for i in range(count)))
            edge += count
        return torch.cat(states[INPUTS:], dim=1)


class Supernet(nn.Module):
    """Stem, mixed cells, classifier. `dropout`: the present rate on skip connections, set by the search."""

    def __init__(self, space: Space, kept: Kept | None = None) -> None:
        super().__init__()
        self.space, self.dropout = space, 0.0
        self.kept: Kept = {name: [list(edge) for edge in edges] for name, edges in (kept or space.whole()).items()}
        plans = space.plans()
        self.stem, self.stem_1 = make_stem(space.stem, space.image[0], space.channels)
        self.blocks = nn.ModuleList(MixedCell(plan, self.kept[cell_name(plan.reduction)], space.nodes) for plan in plans)
        width = space.nodes * plans[-1].channels
        self.fc = nn.Conv2d(width, space.classes, 1) if space.dense else nn.Linear(width, space.classes)

    def forward(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Logits [N, classes] (or [N, classes, H, W] of dense spaces); `weights` by cell type, [edges, operations left]."""
        first = self.stem(x)
        second = first if self.stem_1 is None else self.stem_1(first)
        for cell in self.blocks:
            first, second = second, cell(first, second, weights[cell.name], self.dropout)
        if self.space.dense:
            return nn.functional.interpolate(self.fc(second), x.shape[2:], mode="bilinear", align_corners=False)
        return self.fc(second.mean((2, 3)))

    def drop(self, dropped: dict[str, list[str]]) -> None:
        """Removes one named operation from every edge, in all cells of its type; all else stays as it is."""
        for name, operations in dropped.items():
            for edge, op in enumerate(operations):
                self.kept[name][edge].remove(op)
                for cell in self.blocks:
                    if cell.name == name:
                        del cell.edges[edge].ops[op]

    def macs(self) -> int:
        """Multiply-adds of one picture's forward pass, in closed form."""
        return macs_of(self.space, self.kept)


def macs_of(space: Space, kept: Kept) -> int:
    """Multiply-adds of one picture through a supernet that has these operations left."""
    plans = space.plans()
    found = stem_canvas(space.stem, list(space.image), space.channels).layers
    for plan in plans:
        before = (2 * plan.sides[0], 2 * plan.sides[1]) if plan.halve else plan.sides
        found += preprocess_layers("0", plan.first, plan.channels, plan.halve, before)
        found += preprocess_layers("1", plan.second, plan.channels, False, plan.sides)
        for names, source in zip(kept[cell_name(plan.reduction)], sources(space.nodes), strict=True):
            stride, sides = (2, plan.sides) if plan.reduction and source < INPUTS else (1, plan.output_sides)
            for name in names:
                if name in OPERATIONS:
                    found += operation_layers(name, name, plan.channels, stride, sides)
    last = plans[-1]
    pixels = last.output_sides[0] * last.output_sides[1] if space.dense else 1
    return sum(layer.macs for layer in found) + space.nodes * last.channels * space.classes * pixels
