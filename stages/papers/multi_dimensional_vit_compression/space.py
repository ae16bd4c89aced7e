"""Policies: how many neurons, heads and tokens each block keeps, and which policies meet the budget. No torch here."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.random import RandomState
from numpy.typing import NDArray

from stages.lib.stage import StageError
from stages.papers.multi_dimensional_vit_compression import cost
from stages.papers.multi_dimensional_vit_compression.cost import Shape
from stages.papers.multi_dimensional_vit_compression.settings import Search

DIMENSIONS = ("neurons", "heads", "tokens")
CHUNK = 2000  # random policies whose FLOPs are computed together


@dataclass(frozen=True)
class Policy:
    """Kept neurons and heads of each block, and the share of tokens that every reducing block drops."""

    neurons: tuple[int, ...]
    heads: tuple[int, ...]
    sparsity: float

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"neurons": list(self.neurons), "heads": list(self.heads), "sparsity": self.sparsity}


def from_record(record: dict[str, Any]) -> Policy:
    """The policy of a record."""
    return Policy(tuple(record["neurons"]), tuple(record["heads"]), record["sparsity"])


def dense(shape: Shape) -> Policy:
    """The policy that removes nothing."""
    return Policy((shape.hidden,) * shape.depth, (shape.heads,) * shape.depth, 0.0)


@dataclass(frozen=True)
class Space:
    """Sparsities x in [0, high]^(2 L + 1): of neurons, then of heads by block, then of tokens; a high of 0 fixes one.

    FLOPs of a policy count as feasible within `tolerance` of `budget`.
    """

    shape: Shape
    high: tuple[float, ...]
    budget: float
    tolerance: float
    fused: bool
    rounding: str

    def counts(self, x: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Kept neurons [P, L] and heads [P, L], at least one of each, and token sparsities [P] of points [P, 2 L + 1]."""
        depth, raw = self.shape.depth, self.shape.heads * (1.0 - x[:, self.shape.depth : -1])
        heads = cost.floor(raw if self.rounding == "floor" else raw + 0.5)
        neurons = cost.floor(self.shape.hidden * (1.0 - x[:, :depth]))
        return numpy.maximum(neurons, 1), numpy.maximum(heads, 1), x[:, -1]

    def flops(self, x: NDArray) -> NDArray:
        """[P] FLOPs of points [P, 2 L + 1]."""
        return cost.flops(self.shape, *self.counts(x), self.fused)

    def feasible(self, x: NDArray) -> NDArray:
        """[P] whether the FLOPs of points are near enough to the budget."""
        return numpy.abs(self.flops(x) - self.budget) <= self.tolerance * self.budget

    def policy(self, x: NDArray) -> Policy:
        """The policy of one point [2 L + 1]."""
        neurons, heads, sparsity = self.counts(x[None])
        return Policy(tuple(neurons[0].tolist()), tuple(heads[0].tolist()), float(sparsity[0]))

    def keys(self, x: NDArray) -> list[bytes]:
        """What the policies of points [P, 2 L + 1] do to the net: those that differ in it are different nets."""
        neurons, heads, sparsity = self.counts(x)
        rows = numpy.concatenate([neurons, heads, cost.token_counts(self.shape, sparsity, True)[1]], 1)
        return [row.tobytes() for row in rows]

    def draw(self, random: RandomState, count: int) -> NDArray:
        """Uniform points [count, 2 L + 1]."""
        return random.uniform(size=(count, len(self.high))) * numpy.array(self.high)

    def near(self, random: RandomState, x: NDArray, spread: float, count: int) -> NDArray:
        """Points around x [2 L + 1], each with some coordinates moved by normal draws."""
        high = numpy.array(self.high)
        moved = random.uniform(size=(count, len(high))) < 0.5
        steps = random.normal(size=(count, len(high))) * spread * high
        return numpy.clip(x + moved * steps, 0.0, high)

    def sample(self, random: RandomState, count: int, draws: int) -> NDArray:
        """At most `count` feasible points by rejection from `draws` uniform ones. StageError if there is none."""
        found: list[NDArray] = []
        for start in range(0, draws, CHUNK):
            x = self.draw(random, min(CHUNK, draws - start))
            found.append(x[self.feasible(x)])
            if sum(map(len, found)) >= count:
                break
        points = numpy.concatenate(found)[:count]
        if not len(points):
            share = self.budget / cost.dense_flops(self.shape)
            raise StageError(
                f"params.budget: none of {draws} random policies has {share:.3g} of the dense FLOPs within "
                f"{self.tolerance:g}; {self.reach()}, raise the bound or the tolerance, or choose another budget"
            )
        return points

    def reach(self) -> str:
        """The range of FLOPs, in words."""
        ends = self.flops(numpy.array([self.high, [0.0] * len(self.high)]))
        low, high = ends / cost.dense_flops(self.shape)
        return f"policies reach from {low:.3f} to {high:.3f}"

    def check(self) -> None:
        """StageError if even the largest sparsities exceed the budget, or none does."""
        low, high = self.flops(numpy.array([self.high, [0.0] * len(self.high)]))
        if not low <= self.budget * (1.0 + self.tolerance) or not high >= self.budget * (1.0 - self.tolerance):
            share = self.budget / cost.dense_flops(self.shape)
            raise StageError(f"params.budget={share:g} of the dense FLOPs is out of reach: {self.reach()}")


def make(shape: Shape, settings: Search, budget: float, dimensions: tuple[str, ...] = DIMENSIONS) -> Space:
    """The space in which only `dimensions` may be sparse, for a budget as a share of the dense FLOPs.

    Raises StageError where the budget is out of its reach.
    """
    if settings.reduce[-1] > shape.depth:
        raise StageError(f"params.reduce={list(settings.reduce)}: the net has {shape.depth} blocks")
    bound = settings.bound if len(dimensions) > 1 else settings.bound_alone
    neurons, heads, tokens = (bound if name in dimensions else 0.0 for name in DIMENSIONS)
    high = (neurons,) * shape.depth + (heads,) * shape.depth + (tokens,)
    whole = cost.dense_flops(shape)
    made = Space(shape, high, budget * whole, settings.tolerance, settings.tokens == "real", settings.rounding)
    made.check()
    return made


def uniform(space: Space) -> NDArray:
    """The point with one ratio for all dimensions whose FLOPs are nearest to the budget, from below.

    Heads are whole, so that after theirs the ratio of the other dimensions is found again.
    """
    depth = space.shape.depth
    free = numpy.array(space.high) > 0.0
    point = _bisect(space, numpy.zeros(len(free)), free)
    rest = free.copy()
    rest[depth : 2 * depth] = False
    return _bisect(dataclasses.replace(space, rounding="round"), _whole_heads(space, point), rest) if rest.any() else point


def _whole_heads(space: Space, point: NDArray) -> NDArray:
    heads, depth = space.counts(point[None])[1][0], space.shape.depth
    exact = point.copy()
    exact[depth : 2 * depth] = 1.0 - heads / space.shape.heads
    return exact


def _bisect(space: Space, point: NDArray, free: NDArray) -> NDArray:
    """The point with the least common ratio of the free coordinates at which FLOPs do not exceed the budget."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        tried = numpy.where(free, middle, point)
        low, high = (low, middle) if space.flops(tried[None])[0] <= space.budget else (middle, high)
    return numpy.where(free, high, point)
