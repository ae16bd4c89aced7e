"""CLOSENet in the DARTS space (NAS-Bench-301): two kinds of cells with a gate each; reductions have blocks of stride 2."""

import torch
from torch import Tensor, nn

from stages.lib.darts import OPERATIONS, Genotype, operation, preprocess
from stages.lib.darts.genotype import CELLS, Edge
from stages.lib.darts.network import make_stem
from stages.lib.darts.plan import CellPlan, cell_plans
from stages.papers.close.encoder import GraphEncoder
from stages.papers.close.gates import LearnedGate, Mlp, edge_features
from stages.papers.close.shape import DartsShape, GateShape

CANDIDATES = OPERATIONS[1:]  # no `none` in this space
INPUTS, PARALLEL = 2, 2  # input nodes of a cell, edges into each of the others
WEIGHTLESS = ("max_pool_3x3", "avg_pool_3x3")

Gates = dict[str, Tensor | tuple[int, ...]]  # for each kind of cell: one-hot gates [edges, L] or block numbers


def edges_of(pairs: tuple[Edge, ...]) -> list[tuple[int, int]]:
    """(from, to) of a cell's pairs, two for each intermediate node."""
    return [(source, INPUTS + place // PARALLEL) for place, (_, source) in enumerate(pairs)]


def batch_statistics(module: nn.Module) -> nn.Module:
    """The module itself, its BNs without running statistics, which would mix sub-networks."""
    for item in module.modules():
        if isinstance(item, nn.BatchNorm2d):
            item.track_running_stats, item.running_mean, item.running_var, item.num_batches_tracked = False, None, None, None
    return module


class DartsGlowCell(nn.Module):
    """A cell that holds K blocks of all operations; of stride 2 as well in a reduction cell, for edges from its inputs."""

    def __init__(self, plan: CellPlan, blocks: int) -> None:
        super().__init__()
        self.kind = CELLS[plan.reduction]
        self.preprocess_0 = preprocess(plan.first, plan.channels, plan.halve, affine=False)
        self.preprocess_1 = preprocess(plan.second, plan.channels, False, affine=False)
        strides = (1, 2) if plan.reduction else (1,)
        self.glow = nn.ModuleDict({str(stride): _blocks(plan.channels, stride, blocks) for stride in strides})

    def forward(self, first: Tensor, second: Tensor, genotype: Genotype, gates: Gates) -> Tensor:
        """[N, nodes * channels, H, W] from the outputs of the two cells before."""
        states, pairs = [self.preprocess_0(first), self.preprocess_1(second)], getattr(genotype, self.kind)
        for place in range(0, len(pairs), PARALLEL):
            states.append(sum(self._edge(states, pairs[edge], gates[self.kind][edge]) for edge in (place, place + 1)))
        return torch.cat(states[INPUTS:], 1)

    def _edge(self, states: list[Tensor], pair: Edge, gate: Tensor | int) -> Tensor:
        name, source = pair
        stride = "2" if "2" in self.glow and source < INPUTS else "1"
        blocks = self.glow[stride][name]
        if isinstance(gate, int) or len(blocks) == 1:
            return blocks[gate if isinstance(gate, int) and len(blocks) > 1 else 0](states[source])
        # One-hot in value; all active blocks are computed, so that the gradient reaches every entry of the gate.
        return sum(value * blocks[number](states[source]) for number, value in enumerate(gate))


def _blocks(channels: int, stride: int, count: int) -> nn.ModuleDict:
    """`count` instances of each operation; one of those without weights, whose instances would be equal."""
    sets = {}
    for name in CANDIDATES:
        weightless = name in WEIGHTLESS or (name == "skip_connect" and stride == 1)
        sets[name] = nn.ModuleList(operation(name, channels, stride, affine=False) for _ in range(1 if weightless else count))
    return nn.ModuleDict(sets)


class DartsSupernet(nn.Module):
    """Stem, cells, mean over places, classifier."""

    def __init__(self, shape: DartsShape, image: tuple[int, int, int], classes: int, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.stem, _ = make_stem("cifar", image[0], shape.channels)
        plans = cell_plans(shape.cells, shape.channels, shape.nodes, "cifar", image[1:])
        self.cells = nn.ModuleList(DartsGlowCell(plan, blocks) for plan in plans)
        self.classifier = nn.Linear(shape.nodes * plans[-1].channels, classes)
        batch_statistics(self)

    def forward(self, x: Tensor, genotype: Genotype, gates: Gates) -> Tensor:
        """Logits [N, classes]."""
        first = second = self.stem(x)
        for cell in self.cells:
            first, second = second, cell(first, second, genotype, gates)
        return self.classifier(second.mean((2, 3)))

    def stacks(self) -> list[list[nn.Parameter]]:
        """The K versions of every weight, in the order of the blocks."""
        found = []
        for cell in self.cells:
            for sets in cell.glow.values():
                for instances in sets.values():
                    if len(instances) == self.blocks:
                        found += map(list, zip(*(item.parameters() for item in instances), strict=True))
        return found


class DartsCellGate(LearnedGate):
    """The gate of one kind of cell: logits of edge f -> t = MLP([y_f; y_t])."""

    def __init__(self, shape: GateShape, nodes: int, blocks: int, kind: str) -> None:
        super().__init__()
        self.kind, self.temperature = kind, shape.temperature
        self.encoder = GraphEncoder(shape.encoder, INPUTS + nodes, INPUTS, len(CANDIDATES), None, PARALLEL)
        self.mlp = Mlp(2 * shape.encoder.widths[-1], shape, blocks)

    def logits(self, architecture: Genotype) -> Tensor:
        """[edges, K]."""
        pairs = getattr(architecture, self.kind)
        edges = edges_of(pairs)
        return self.mlp(edge_features(self.encoder(edges, [CANDIDATES.index(name) for name, _ in pairs]), edges))

    def edges(self, architecture: Genotype) -> int:
        """Edges of the cell."""
        return len(getattr(architecture, self.kind))

    def rows(self, block: int) -> list[int]:
        """One row."""
        return [block]


class DartsGate(nn.Module):
    """A gate for the normal cells and one for the reduction cells."""

    def __init__(self, shape: GateShape, nodes: int, blocks: int) -> None:
        super().__init__()
        self.kinds = nn.ModuleDict({kind: DartsCellGate(shape, nodes, blocks, kind) for kind in CELLS})

    def draw(self, genotype: Genotype, level: int, generator: torch.Generator) -> Gates:
        """Gates of a training step."""
        return {kind: gate.draw(genotype, level, generator) for kind, gate in self.kinds.items()}

    def decide(self, genotype: Genotype, level: int, generator: torch.Generator | None = None) -> Gates:
        """The most probable blocks."""
        return {kind: gate.decide(genotype, level, generator) for kind, gate in self.kinds.items()}
