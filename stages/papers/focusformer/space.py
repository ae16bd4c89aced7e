"""Architectures of an AutoFormer space: drawing, counting, and the operators of its evolutionary search. No torch here."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from stages.lib.errors import StageError
from stages.papers.focusformer.settings import Space


class Generator(Protocol):
    """random.Random or numpy's Generator."""

    def random(self) -> float:
        """Uniform in [0, 1)."""


@dataclass(frozen=True)
class Architecture:
    """Embedding width e, and for each of the first d blocks an MLP ratio and a number of heads."""

    embed: int
    ratios: tuple[float, ...]
    heads: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.ratios)

    def record(self) -> dict:
        """Plain JSON values."""
        return {"embed": self.embed, "ratios": list(self.ratios), "heads": list(self.heads)}


def choice(values: Sequence, generator: Generator):
    """One of the values, uniformly."""
    return values[int(generator.random() * len(values))]


def uniform(space: Space, generator: Generator) -> Architecture:
    """AutoFormer's draw: depth, embedding width, every ratio and every number of heads uniform and independent."""
    depth, embed = choice(space.depth, generator), choice(space.embed, generator)
    ratios = tuple(choice(space.ratio, generator) for _ in range(depth))
    return Architecture(embed, ratios, tuple(choice(space.heads, generator) for _ in range(depth)))


def size(space: Space) -> int:
    """Number of architectures: |e| sum over d of (|m| |h|)^d."""
    layer = len(space.ratio) * len(space.heads)
    return len(space.embed) * sum(layer**depth for depth in space.depth)


def everything(space: Space) -> Iterator[Architecture]:
    """All architectures of a small space, in a fixed order."""
    for depth, embed in itertools.product(space.depth, space.embed):
        for ratios in itertools.product(space.ratio, repeat=depth):
            for heads in itertools.product(space.heads, repeat=depth):
                yield Architecture(embed, ratios, heads)


def smallest(space: Space) -> Architecture:
    """The architecture of all least choices."""
    return constant(space, 0)


def largest(space: Space) -> Architecture:
    """The architecture of all greatest choices."""
    return constant(space, -1)


def constant(space: Space, place: int) -> Architecture:
    """The architecture that takes the choice at `place` in every list."""
    depth = space.depth[place]
    return Architecture(space.embed[place], (space.ratio[place],) * depth, (space.heads[place],) * depth)


def mean(space: Space) -> Architecture:
    """A fixed architecture of about the mean size: middle choices, the two middle ones of an even list in turn."""

    def middle(values: Sequence, turn: int):
        return values[(len(values) - turn % 2) // 2]

    layers = range(1, middle(space.depth, 1) + 1)
    ratios = tuple(middle(space.ratio, layer) for layer in layers)
    return Architecture(middle(space.embed, 1), ratios, tuple(middle(space.heads, layer) for layer in layers))


def contains(space: Space, found: Architecture) -> bool:
    """Whether an architecture belongs to the space."""
    return (
        found.embed in space.embed and found.depth in space.depth and len(found.heads) == found.depth
        and set(found.ratios) <= set(space.ratio) and set(found.heads) <= set(space.heads)
    )  # fmt: skip


def length(space: Space) -> int:
    """Number of decisions of the deepest architecture: depth, embedding width, and two a block."""
    return 2 + 2 * space.depth[-1]


def encode(space: Space, found: Architecture) -> list[int]:
    """Places of the choices in the order depth, embed, m_1, h_1, m_2, ..; -1 for the decisions of absent blocks."""
    if not contains(space, found):
        raise StageError(f"{found}: is not in the search space; take choices of the params file's space")
    codes = [space.depth.index(found.depth), space.embed.index(found.embed)]
    for ratio, heads in zip(found.ratios, found.heads, strict=True):
        codes += [space.ratio.index(ratio), space.heads.index(heads)]
    return codes + [-1] * (length(space) - len(codes))


def decode(space: Space, codes: Sequence[int]) -> Architecture:
    """The architecture of `encode`'s places."""
    layers = codes[2 : 2 + 2 * space.depth[codes[0]]]
    ratios = tuple(space.ratio[code] for code in layers[0::2])
    return Architecture(space.embed[codes[1]], ratios, tuple(space.heads[code] for code in layers[1::2]))


def mutate(
    space: Space, parent: Architecture, generator: Generator, depth_probability: float, layer_probability: float
) -> Architecture:
    """AutoFormer's mutation: maybe a new depth (cut, or random blocks appended), maybe new layers, maybe a new width."""
    ratios, heads, embed = list(parent.ratios), list(parent.heads), parent.embed
    if generator.random() < depth_probability:
        depth = choice(space.depth, generator)
        while len(ratios) < depth:
            ratios.append(choice(space.ratio, generator))
            heads.append(choice(space.heads, generator))
        ratios, heads = ratios[:depth], heads[:depth]
    for layer in range(len(ratios)):
        if generator.random() < layer_probability:
            ratios[layer] = choice(space.ratio, generator)
        if generator.random() < layer_probability:
            heads[layer] = choice(space.heads, generator)
    if generator.random() < depth_probability:
        embed = choice(space.embed, generator)
    return Architecture(embed, tuple(ratios), tuple(heads))


def cross(a: Architecture, b: Architecture, generator: Generator) -> Architecture | None:
    """Every entry from either parent at even odds; None for parents of different depth, which have no common child."""
    if a.depth != b.depth:
        return None

    def either(first, second):
        return first if generator.random() < 0.5 else second

    embed = either(a.embed, b.embed)
    ratios = tuple(map(either, a.ratios, b.ratios))
    return Architecture(embed, ratios, tuple(map(either, a.heads, b.heads)))
