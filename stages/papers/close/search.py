"""Draws and changes of architectures for stages.lib.evolution, in both topological spaces."""

from random import Random

from stages.lib.darts import Genotype
from stages.lib.darts.genotype import CELLS, Edge
from stages.lib.evolution import Operators
from stages.papers.close.darts_net import CANDIDATES, INPUTS, PARALLEL
from stages.papers.close.space import Architecture, has_live_convolution


def cell_operators(pool: list[Architecture]) -> Operators[Architecture]:
    """NAS-Bench-201's cells: draws from `pool`, one edge changed, edges of either parent; a live convolution is needed."""
    operations = sorted({operation for architecture in pool for operation in architecture})

    def mutate(parent: Architecture, generator: Random) -> Architecture:
        edge, others = generator.randrange(len(parent)), list(operations)
        others.remove(parent[edge])
        return (*parent[:edge], generator.choice(others or operations), *parent[edge + 1 :])

    def cross(a: Architecture, b: Architecture, generator: Random) -> Architecture:
        return tuple(generator.choice(pair) for pair in zip(a, b, strict=True))

    return Operators(lambda generator: generator.choice(pool), mutate, cross, has_live_convolution)


def random_genotype(nodes: int, generator: Random) -> Genotype:
    """Uniform: two different predecessors for every node, an operation on each edge."""
    return Genotype(*(_cell(nodes, generator) for _ in CELLS))


def _cell(nodes: int, generator: Random) -> tuple[Edge, ...]:
    pairs: list[Edge] = []
    for node in range(INPUTS, INPUTS + nodes):
        sources = sorted(generator.sample(range(node), PARALLEL))
        pairs += [(generator.choice(CANDIDATES), source) for source in sources]
    return tuple(pairs)


def genotype_operators(nodes: int) -> Operators[Genotype]:
    """The DARTS space: one edge's operation or one node's edges drawn anew, each cell from either parent."""

    def mutate(parent: Genotype, generator: Random) -> Genotype:
        cells = {kind: list(getattr(parent, kind)) for kind in CELLS}
        chosen = cells[generator.choice(CELLS)]
        if generator.random() < 0.5:
            edge = generator.randrange(len(chosen))
            chosen[edge] = (generator.choice(CANDIDATES), chosen[edge][1])
        else:
            node = generator.randrange(nodes)
            chosen[PARALLEL * node : PARALLEL * (node + 1)] = _cell(nodes, generator)[PARALLEL * node : PARALLEL * (node + 1)]
        return Genotype(**{kind: tuple(pairs) for kind, pairs in cells.items()})

    def cross(a: Genotype, b: Genotype, generator: Random) -> Genotype:
        return Genotype(*(getattr(generator.choice((a, b)), kind) for kind in CELLS))

    return Operators(lambda generator: random_genotype(nodes, generator), mutate, cross, lambda candidate: True)
