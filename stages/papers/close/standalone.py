"""A stand-alone net of one architecture, and many of them side by side."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib import batched
from stages.papers.close.glow import pooled
from stages.papers.close.shape import Shape
from stages.papers.close.space import CONVOLUTIONS, EDGES, NODES, NONE, OPERATIONS, POOL, Architecture, live_edges
from stages.papers.close.supernet import Reduction, stem


def conv(channels: int, operation: int) -> nn.Sequential:
    """ReLU-convolution-BN of an edge; trained alone, BN has scale, shift and running statistics."""
    kernel = CONVOLUTIONS[operation]
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(channels)
    )


class Cell(nn.Module):
    """A cell of one architecture; only edges between input and output exist."""

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        live = live_edges(architecture)
        self.convs = nn.ModuleDict(
            {str(edge): conv(channels, architecture[edge]) for edge in live if architecture[edge] in CONVOLUTIONS}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Output [N, C, H, W]."""
        nodes: list[Tensor | None] = [x] + [None] * (NODES - 1)
        for edge in live_edges(self.architecture):
            source, target = EDGES[edge]
            out = nodes[source]
            if str(edge) in self.convs:
                out = self.convs[str(edge)](out)
            elif self.architecture[edge] == POOL:
                out = pooled(out)
            nodes[target] = out if nodes[target] is None else nodes[target] + out
        return torch.zeros_like(x) if nodes[-1] is None else nodes[-1]


class Head(nn.Module):
    """BN, ReLU, mean over places, classifier: [N, C, H, W] to [N, classes]."""

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout, self.classifier = nn.BatchNorm2d(channels), nn.Dropout(dropout), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.classifier(self.dropout(functional.relu(self.norm(x)).mean((2, 3))))


class StandAlone(nn.Module):
    """The net of one architecture."""

    def __init__(self, shape: Shape, image: tuple[int, int, int], classes: int, architecture: Architecture) -> None:
        """`image` is [C, H, W]."""
        super().__init__()
        widths = shape.channels
        self.classes = classes
        self.stem = stem(image[0], widths[0], shape.stride, nn.BatchNorm2d)
        self.stages = nn.ModuleList(
            nn.ModuleList(Cell(width, architecture) for _ in range(shape.cells)) for width in widths
        )  # fmt: skip
        self.reductions = nn.ModuleList(Reduction(a, b, nn.BatchNorm2d) for a, b in pairwise(widths))
        self.head = Head(widths[-1], classes, shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes]."""
        h = self.stem(x)
        for number, cells in enumerate(self.stages):
            if number:
                h = self.reductions[number - 1](h)
            for cell in cells:
                h = cell(h)
        return self.head(h)


class Together(nn.Module):
    """Stand-alone nets of several architectures as one module: logits [N, nets * classes] of the same images."""

    def __init__(self, nets: Sequence[StandAlone]) -> None:
        super().__init__()
        self.classes = nets[0].classes
        self.stem = batched.stack([net.stem for net in nets], shared=True)
        self.stages = nn.ModuleList(
            nn.ModuleList(CellTogether([net.stages[s][c] for net in nets]) for c in range(len(cells)))
            for s, cells in enumerate(nets[0].stages)
        )  # fmt: skip
        self.reductions = nn.ModuleList(
            batched.stack([net.reductions[s] for net in nets]) for s in range(len(nets[0].reductions))
        )
        self.head = batched.stack([net.head for net in nets])

    forward = StandAlone.forward


class CellTogether(nn.Module):
    """Cells of several architectures. All edges that leave a node are computed at once, each operation a single time.

    `parts` of a node says how many of its edges have which operation; `sources` and `targets` lead from the nets' features to
    the edges, and from the edges to the nodes after it.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        self.parts, self.convs = [], nn.ModuleDict()
        self.sources, self.targets = nn.ModuleDict(), nn.ModuleDict()
        for node in range(NODES - 1):
            users = {op: _users(cells, node, op) for op in range(NONE + 1, len(OPERATIONS))}
            self.parts.append([(op, len(edges)) for op, edges in users.items() if edges])
            ends = [(net, EDGES[edge][1] - node - 1) for edges in users.values() for net, edge in edges]
            if ends:
                self.sources[str(node)] = batched.Routes([net for net, _ in ends], len(cells))
                later = (NODES - 1 - node) * len(cells)
                self.targets[str(node)] = batched.Routes([after * len(cells) + net for net, after in ends], later)
            for op in CONVOLUTIONS:
                if users[op]:
                    self.convs[f"{node}_{op}"] = batched.stack([cells[net].convs[str(edge)] for net, edge in users[op]])

    def forward(self, x: Tensor) -> Tensor:
        """[N, nets * C, H, W] to the same."""
        nodes: list[Tensor | None] = [x] + [None] * (NODES - 1)
        for node, parts in enumerate(self.parts):
            if parts and nodes[node] is not None:
                outs = self._edges(node, self.sources[str(node)].pick(nodes[node]))
                later = self.targets[str(node)].spread(outs).chunk(NODES - 1 - node, 1)
                for target, out in enumerate(later, node + 1):
                    nodes[target] = out if nodes[target] is None else nodes[target] + out
        return torch.zeros_like(x) if nodes[-1] is None else nodes[-1]

    def _edges(self, node: int, x: Tensor) -> Tensor:
        """The operations of all edges that leave a node, in the order of its parts."""
        width = x.shape[1] // sum(edges for _, edges in self.parts[node])
        chunks = x.split([edges * width for _, edges in self.parts[node]], dim=1)
        outs = []
        for (op, _), chunk in zip(self.parts[node], chunks, strict=True):
            if op in CONVOLUTIONS:
                outs.append(self.convs[f"{node}_{op}"](chunk))
            else:
                outs.append(pooled(chunk) if op == POOL else chunk)
        return torch.cat(outs, 1)


def _users(cells: Sequence[Cell], node: int, operation: int) -> list[tuple[int, int]]:
    """(net, edge) of every live edge that leaves the node with that operation."""
    return [
        (net, edge) for net, cell in enumerate(cells) for edge in live_edges(cell.architecture)
        if EDGES[edge][0] == node and cell.architecture[edge] == operation
    ]  # fmt: skip
