"""The operation-importance indicator, the statistics that it rests on, and what follows from it (sections 3.3 to 3.5)."""

import torch
from torch import Tensor

from stages.lib.darts.genotype import INPUTS, Edge
from stages.papers.eoinas.supernet import sources


def indicator(alpha: Tensor, accuracy: Tensor, count: Tensor, weight: float) -> Tensor:
    """I = softmax(alpha) + lambda a / n, all [edges, operations]; where n is 0 there is no second term.

    `accuracy` in percent. The official code divides 0 by 0 for operations that were never drawn and then drops them.
    """
    evidence = torch.where(count > 0, accuracy / count.clamp_min(1), torch.zeros_like(accuracy))
    return torch.softmax(alpha, -1) + weight * evidence


class Statistics:
    """For each edge and operation: draws since the last drop, and the accuracy reached when it was drawn.

    count, accuracy, seen: float64 [edges, operations]; `seen` counts the batches in the mean accuracy.
    """

    def __init__(self, edges: int, operations: int, rule: str) -> None:
        self.rule = rule  # mean | last
        self.count, self.accuracy, self.seen = (torch.zeros(edges, operations, dtype=torch.float64) for _ in range(3))

    def drawn(self, weights: Tensor) -> None:
        """Count the largest entry of every edge's mixing weights [edges, operations], after a step of the net's weights."""
        self.count += _largest(weights)

    def reached(self, weights: Tensor, percent: float) -> None:
        """Note the accuracy of a held-out batch for every edge's largest entry, after a step of the alphas."""
        hit = _largest(weights)
        self.seen += hit
        rate = 1.0 / self.seen.clamp_min(1) if self.rule == "mean" else 1.0
        self.accuracy += hit * rate * (percent - self.accuracy)

    def keep(self, index: Tensor) -> None:
        """Keep the columns index [edges, left] of each edge; draws start from 0 again, accuracies stay."""
        self.accuracy, self.seen = self.accuracy.gather(1, index), self.seen.gather(1, index)
        self.count = torch.zeros_like(self.accuracy)


def _largest(weights: Tensor) -> Tensor:
    hit = torch.zeros(weights.shape, dtype=torch.float64)
    return hit.scatter_(1, weights.detach().cpu().argmax(1, keepdim=True), 1.0)


def least(names: list[list[str]], importance: Tensor) -> list[str]:
    """The operation that each edge gives up: the least important; with two left `none` if it is one of them."""
    chosen = []
    for edge, row in zip(names, importance, strict=True):
        chosen.append("none" if len(edge) == 2 and "none" in edge else edge[int(row.argmin())])
    return chosen


def columns_without(names: list[list[str]], dropped: list[str]) -> Tensor:
    """Columns [edges, left] of what stays. Every edge has its own; the official code takes the first edge's for all."""
    return torch.tensor([[i for i, name in enumerate(edge) if name != gone] for edge, gone in zip(names, dropped, strict=True)])


def remaining(names: list[list[str]], dropped: list[str], importance: Tensor) -> Tensor:
    """Importance [edges] of the one operation that stays of each edge's two."""
    return importance.gather(1, columns_without(names, dropped)).squeeze(1)


def strongest(names: list[list[str]], importance: Tensor) -> tuple[list[str], list[float]]:
    """The most important operation besides `none` of every edge, and its importance: the edge's strength."""
    operations, strengths = [], []
    for edge, row in zip(names, importance.tolist(), strict=True):
        value, name = max(((value, name) for name, value in zip(edge, row, strict=True) if name != "none"), key=lambda x: x[0])
        operations.append(name)
        strengths.append(value)
    return operations, strengths


def derive(nodes: int, operations: list[str], strengths: list[float]) -> tuple[Edge, ...]:
    """The cell that keeps the two strongest edges of every node; of equal ones the later edge, as in the official code."""
    origins, pairs, start = sources(nodes), [], 0
    for node in range(nodes):
        edges = range(start, start + node + INPUTS)
        best = sorted(sorted(edges, key=lambda edge: (strengths[edge], edge))[-2:])
        pairs += [(operations[edge], origins[edge]) for edge in best]
        start += node + INPUTS
    return tuple(pairs)
