"""Genotypes: which operation on which edge makes a normal and a reduction cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.lib.darts.operations import OPERATIONS
from stages.lib.errors import StageError

INPUTS = 2  # nodes 0 and 1 of a cell are the outputs of the two cells before it
Edge = tuple[str, int]  # operation, predecessor
CELLS = ("normal", "reduce")


@dataclass(frozen=True)
class Genotype:
    """Two cells of the DARTS space, each a list of (operation, predecessor) pairs, two for every intermediate node.

    Intermediate node i (from 0) is node i + 2 of the cell, sums the outcomes of its two edges, and all intermediate
    nodes are concatenated. Raises StageError where the pairs are no such cell.
    """

    normal: tuple[Edge, ...]
    reduce: tuple[Edge, ...]

    def __post_init__(self) -> None:
        for name in CELLS:
            _check(getattr(self, name), name)
        if len(self.normal) != len(self.reduce):
            raise StageError(
                f"genotype: expected as many nodes in both cells, got {len(self.normal) / 2:g} and {len(self.reduce) / 2:g}"
            )

    @property
    def nodes(self) -> int:
        """Intermediate nodes of a cell."""
        return len(self.normal) // 2

    def cell(self, reduction: bool) -> tuple[Edge, ...]:
        """The pairs of the reduction cell or of the normal one."""
        return self.reduce if reduction else self.normal

    def record(self) -> dict[str, list[list]]:
        """Plain JSON values, from which `parse` makes the same genotype."""
        return {name: [[op, source] for op, source in getattr(self, name)] for name in CELLS}


def parse(record: Any) -> Genotype:
    """The genotype of a record. Raises StageError that names what is wrong with it."""
    if not isinstance(record, dict) or set(record) != set(CELLS):
        raise StageError(f"genotype: expected the keys {' and '.join(CELLS)}, got {str(record)[:60]!r}")
    return Genotype(**{name: _pairs(record[name], name) for name in CELLS})


def _pairs(cell: Any, name: str) -> tuple[Edge, ...]:
    if not isinstance(cell, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in cell):
        raise StageError(f"genotype, {name}: expected a list of [operation, predecessor] pairs, got {str(cell)[:60]!r}")
    return tuple((pair[0], pair[1]) for pair in cell)


def _check(pairs: Sequence[Edge], name: str) -> None:
    if not pairs or len(pairs) % 2:
        raise StageError(f"genotype, {name}: expected two pairs for every node, got {len(pairs)} in all")
    for position, (op, source) in enumerate(pairs):
        node = position // 2 + INPUTS
        where = f"genotype, {name}, node {node}"
        if op == "none" or op not in OPERATIONS:
            raise StageError(f"{where}: operation {str(op)[:60]!r}; expected one of {', '.join(OPERATIONS[1:])}")
        if not isinstance(source, int) or isinstance(source, bool) or not 0 <= source < node:
            raise StageError(
                f"{where}: predecessor {str(source)[:60]!r}; expected a node from 0 to {node - 1}, else the cell is no DAG"
            )
    for node in range(len(pairs) // 2):
        if pairs[2 * node][1] == pairs[2 * node + 1][1]:
            raise StageError(
                f"genotype, {name}, node {node + INPUTS}: both edges come from node {pairs[2 * node][1]}; "
                "expected two different predecessors"
            )
