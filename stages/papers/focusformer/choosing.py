"""Choosing an architecture of a trained supernet for a budget: by evolution, at random, or by the sampler."""

import functools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.data import Split
from stages.lib.evolution import Found, Operators, evolve, random_search
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.focusformer import cost, deployment
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.sampler import Sampler
from stages.papers.focusformer.space import Architecture
from stages.papers.focusformer.supernet import Supernet
from stages.papers.focusformer.training import accuracy

if TYPE_CHECKING:
    from stages.papers.focusformer.cost import Canvas
    from stages.papers.focusformer.settings import Search, Space


@dataclass(frozen=True)
class Chosen:
    """An architecture for a budget, what it cost to find, and whether the way itself met the budget."""

    architecture: Architecture
    evaluations: int
    met: bool = True


def operators(space: "Space", canvas: "Canvas", options: "Search", budget: float) -> Operators[Architecture]:
    """AutoFormer's operators; legal is what costs from floor * budget to the budget, in MACs."""
    return Operators(
        random=functools.partial(spaces.uniform, space),
        mutate=lambda one, draw: spaces.mutate(space, one, draw, options.depth_probability, options.layer_probability),
        cross=spaces.cross,
        legal=lambda one: options.floor * budget <= cost.macs(one, canvas) <= budget,
    )


def search(
    net: Supernet, space: "Space", held_out: Split, options: "Search", budget: float, seed: int, evolution: bool
) -> Found[Architecture]:
    """Evolution, or as many random architectures, by the accuracy on the held-out images. Raises StageError as `evolve`."""
    own, draw = operators(space, net.canvas, options, budget), random.Random(seed)

    def fitness(one: Architecture) -> float:
        return accuracy(net, one, held_out.x, held_out.y)

    if evolution:
        return evolve(own, fitness, options.evolution, draw)
    amounts = options.evolution
    return random_search(own, fitness, amounts.population * amounts.generations, draw, amounts.random_trials)


def choose(
    way: str, net: Supernet, sampler: Sampler | None, space: "Space", held_out: Split, options: "Search", draws: int,
    budget: float, repetition: int,
) -> Chosen:  # fmt: skip
    """The architecture that a way (evolution, random, decode) finds for a budget in MACs.

    A decode that fails falls back on the smallest architecture, and says so.
    """
    seed = derive_seed(repetition, "search", budget)
    if way != "decode":
        found = search(net, space, held_out, options, budget, seed, way == "evolution")
        return Chosen(found.best, found.evaluations)
    seed_everything(seed)
    one = deployment.deploy(sampler, net.canvas, budget, draws)
    return Chosen(one or spaces.smallest(space), 0, one is not None)
