"""NAS-Bench-201's cells: 4 nodes, an operation on each of the 6 edges, classes of isomorphic cells."""

import itertools
import random
import re
from collections.abc import Sequence

from stages.lib.errors import StageError

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV1, CONV3, POOL = range(5)
CONVOLUTIONS = {CONV1: 1, CONV3: 3}  # operation: side of its kernel
NODES = 4
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (from, to), in the order of an architecture's operations

Architecture = tuple[int, ...]  # an index of OPERATIONS for each edge

_TOKEN = re.compile(r"(\w+)~(\d)")


def text(architecture: Architecture) -> str:
    """The benchmark's string |op~0|+|op~0|op~1|+|op~0|op~1|op~2|."""
    names = iter(architecture)
    return "+".join("|" + "".join(f"{OPERATIONS[next(names)]}~{source}|" for source in range(node)) for node in range(1, NODES))


def parse(string: str) -> Architecture:
    """The architecture of a benchmark string. Raises StageError for an unknown operation or another form."""
    tokens = _TOKEN.findall(string)
    for name, _ in tokens:
        if name not in OPERATIONS:
            raise StageError(f"architecture {string!r}: unknown operation {name}; expected one of {', '.join(OPERATIONS)}")
    found = tuple(OPERATIONS.index(name) for name, _ in tokens)
    if len(found) != len(EDGES) or text(found) != string:
        form = text((NONE,) * len(EDGES)).replace("none", "op")
        raise StageError(f"architecture {string!r}: malformed; expected {form}")
    return found


def canonical(architecture: Architecture) -> str:
    """A string that isomorphic cells share, by the rule that gives the benchmark's 6466 classes.

    A node is the sorted terms of its incoming edges: "#" for no signal, the node's own string for skip, "(string)@op" for
    the rest. A node of only "#"s counts as empty where it is one "#", not where it is "##": that is part of the rule.
    """
    nodes = ["0"]
    for node in range(1, NODES):
        terms = []
        for (source, target), operation in zip(EDGES, architecture, strict=True):
            if target == node:
                terms.append(_term(nodes[source], operation))
        nodes.append("".join(sorted(terms)))
    return nodes[-1]


def _term(source: str, operation: int) -> str:
    if operation == NONE or source == "#":
        return "#"
    return source if operation == SKIP else f"({source})@{operation}"


def normal_form(architecture: Architecture) -> str:
    """A stricter string than `canonical`: nodes without signal vanish, and a skipped sum is part of the sum it enters."""
    nodes: list[tuple[str, ...]] = [("0",)]
    for node in range(1, NODES):
        terms: list[str] = []
        for (source, target), operation in zip(EDGES, architecture, strict=True):
            if target == node and operation != NONE and nodes[source]:
                inner = "+".join(nodes[source])
                terms += nodes[source] if operation == SKIP else [f"({inner})@{operation}"]
        nodes.append(tuple(sorted(terms)))
    return "+".join(nodes[-1])


def live_edges(architecture: Architecture) -> tuple[int, ...]:
    """Edges on a path from input to output, in order: the only ones that a net computes."""
    reached, needed = {0}, {NODES - 1}
    for (source, target), operation in zip(EDGES, architecture, strict=True):
        if operation != NONE and source in reached:
            reached.add(target)
    for (source, target), operation in reversed(list(zip(EDGES, architecture, strict=True))):
        if operation != NONE and target in needed:
            needed.add(source)
    return tuple(
        edge for edge, ((source, target), operation) in enumerate(zip(EDGES, architecture, strict=True))
        if operation != NONE and source in reached and target in needed
    )  # fmt: skip


def has_live_convolution(architecture: Architecture) -> bool:
    """Whether a cell has weights at all."""
    return any(architecture[edge] in CONVOLUTIONS for edge in live_edges(architecture))


def architectures(operations: Sequence[str] = OPERATIONS) -> list[Architecture]:
    """Every cell of the given operations, in a fixed order. Raises StageError for an unknown operation."""
    for name in operations:
        if name not in OPERATIONS:
            raise StageError(f"space.operations: unknown operation {name}; expected some of {', '.join(OPERATIONS)}")
    allowed = sorted({OPERATIONS.index(name) for name in operations})
    return list(itertools.product(allowed, repeat=len(EDGES)))


def classes(operations: Sequence[str] = OPERATIONS) -> dict[str, list[Architecture]]:
    """Cells by canonical string, in the order of their first members."""
    found: dict[str, list[Architecture]] = {}
    for architecture in architectures(operations):
        found.setdefault(canonical(architecture), []).append(architecture)
    return found


def searchable(operations: Sequence[str] = OPERATIONS) -> list[Architecture]:
    """One cell of each class that has a live convolution. Raises StageError if there is none."""
    found = [members[0] for members in classes(operations).values() if has_live_convolution(members[0])]
    if not found:
        raise StageError(f"space.operations={list(operations)}: no cell has a convolution between input and output; allow one")
    return found


def sample(count: int, seed: int, operations: Sequence[str] = OPERATIONS) -> list[Architecture]:
    """`count` different searchable cells in a seeded order. Raises StageError if there are fewer."""
    pool = searchable(operations)
    if not 1 <= count <= len(pool):
        raise StageError(f"architectures={count}: expected 1 to {len(pool)}, the classes of cells with a convolution")
    return random.Random(seed).sample(pool, count)
