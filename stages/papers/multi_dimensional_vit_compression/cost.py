"""FLOPs of many policies at once: the model that the official code constrains (section 3.4), and the true count. No torch here.

Both count multiply-adds of the blocks' linear maps and attention products; patch map, norms and classifier are left out.
"""

from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray

SLACK = 1e-9  # before rounding down: 12 * (1 - 0.25) must be 9 whatever its last bit


@dataclass(frozen=True)
class Shape:
    """A dense transformer: N tokens with the class token, and the blocks, counted from 1, that reduce them."""

    tokens: int
    embed: int
    head_dim: int
    heads: int
    hidden: int
    depth: int
    reduce: tuple[int, ...]


def floor(values: ArrayLike) -> NDArray[numpy.int64]:
    """Whole parts, with some slack for rounding errors."""
    return numpy.floor(numpy.asarray(values, dtype=numpy.float64) + SLACK).astype(numpy.int64)


def kept(tokens: ArrayLike, sparsity: ArrayLike) -> NDArray[numpy.int64]:
    """K = int(N (1 - t)) of N tokens, the class token among them; at least one stays and, with a sparsity, one goes."""
    return numpy.clip(floor(numpy.asarray(tokens) * (1.0 - numpy.asarray(sparsity))), 1, numpy.asarray(tokens) - 1)


def token_counts(shape: Shape, sparsity: ArrayLike, fused: bool) -> tuple[NDArray[numpy.int64], NDArray[numpy.int64]]:
    """Tokens [P, L] that each block's attention and MLP see, for token sparsities [P].

    `fused`: as they are, with the mean of the dropped ones as one token more. Otherwise the official model: shares of all
    N tokens, without it. Without sparsity nothing is reduced.
    """
    sparsity = numpy.atleast_1d(numpy.asarray(sparsity, dtype=numpy.float64))
    attention = numpy.empty((len(sparsity), shape.depth), dtype=numpy.int64)
    mlp = numpy.empty_like(attention)
    now, level = numpy.full(len(sparsity), shape.tokens, dtype=numpy.int64), 0
    for block in range(1, shape.depth + 1):
        attention[:, block - 1] = now
        if block in shape.reduce:
            level += 1
            reduced = kept(now, sparsity) + 1 if fused else floor(shape.tokens * (1.0 - sparsity) ** level)
            now = numpy.where(sparsity > 0.0, reduced, now)
        mlp[:, block - 1] = now
    return attention, mlp


def flops(shape: Shape, neurons: ArrayLike, heads: ArrayLike, sparsity: ArrayLike, fused: bool) -> NDArray[numpy.int64]:
    """[P] FLOPs of the blocks with the kept neurons [P, L] and heads [P, L].

    FLOPs of a block = 2 N_mlp D neurons + heads (4 D d N_att + 2 d N_att^2).
    """
    attention, mlp = token_counts(shape, sparsity, fused)
    width, head = shape.embed, shape.head_dim
    per_head = 4 * width * head * attention + 2 * head * attention**2
    made = 2 * mlp * width * numpy.atleast_2d(neurons) + numpy.atleast_2d(heads) * per_head
    return made.sum(1, dtype=numpy.int64)


def dense_flops(shape: Shape) -> int:
    """FLOPs of the blocks with nothing removed."""
    full = numpy.ones(shape.depth, dtype=numpy.int64)
    return int(flops(shape, shape.hidden * full, shape.heads * full, 0.0, True)[0])


def formula_parameters(shape: Shape, neurons: ArrayLike, heads: ArrayLike, classes: int) -> int:
    """Weights of the official count: both maps of the MLPs, the four of attention, and the classifier with its biases."""
    width = shape.embed
    blocks = 2 * width * int(numpy.sum(neurons)) + 4 * width * shape.head_dim * int(numpy.sum(heads))
    return blocks + (width + 1) * classes
