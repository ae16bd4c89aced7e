"""The parameters of a run, as params/focusformer/*.yaml gives them, with their ranges. No torch here: wrong input is fast."""

import math
from dataclasses import dataclass

from stages.lib.checks import at_least, between, one_of
from stages.lib.evolution import Evolution
from stages.lib.stage import MISSING, StageError, field
from stages.lib.vit import settings

BIAS_SLICINGS = ("interleaved", "prefix")
REWARDS = ("dominance", "tunas", "mnas")
PRIORS = ("anchors", "range")


@dataclass
class Space:
    """A search space of AutoFormer: one embedding width for all layers, heads and MLP ratio for each."""

    embed: list[int] = MISSING
    heads: list[int] = MISSING
    ratio: list[float] = MISSING
    depth: list[int] = MISSING

    def check(self) -> None:
        """StageError unless every list holds different positive values in ascending order."""
        for name in ("embed", "heads", "ratio", "depth"):
            values = list(getattr(self, name))
            if not values or values != sorted(set(values)) or not values[0] > 0 or not values[-1] < math.inf:
                raise StageError(f"space.{name}={values}: expected different numbers above 0 in ascending order")


@dataclass
class Supernet:
    """Shape of the supernet; the space must fit into it."""

    embed: int = field(help="widest embedding")
    heads: int = field(help="most heads of a layer")
    ratio: float = field(help="largest MLP ratio")
    depth: int = field(help="number of blocks")
    head_dim: int = field(help="width of a head, the same everywhere; 64 in the paper")
    patch: int = field(help="side of a patch in pixels")
    clip: int = field(help="largest relative distance with an entry of its own; 14 in the paper")
    bias_slicing: str = field(help="interleaved: a bias belongs to its row of q, k or v; prefix: as in the official code")
    deviation: float = field(help="standard deviation of initial weights; 0.02 in the paper, too little for narrow nets")
    drop_path: float = field(help="largest rate of stochastic depth, reached by the last block of the supernet")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("embed", "heads", "depth", "head_dim", "patch", "clip"):
            at_least(f"supernet.{name}", getattr(self, name), 1)
        one_of("supernet.bias_slicing", self.bias_slicing, BIAS_SLICINGS)
        between("supernet.ratio", self.ratio, 0.0, math.inf)
        between("supernet.deviation", self.deviation, 0.0, math.inf)
        between("supernet.drop_path", self.drop_path, 0.0, 1.0)


@dataclass
class Recipe(settings.Recipe):
    """AutoFormer's recipe: DeiT's, and its seeding of the draws."""

    reseed: bool = field(help="seed the draws of architectures with the number of the pass, as the official code does")


@dataclass
class Sampler:
    """The architecture sampler and its REINFORCE updates."""

    hidden: int = field(help="width of the LSTM and of its embeddings; 64 in the paper's circle")
    lr: float = field(help="learning rate of Adam")
    entropy: float = field(help="weight of the entropy bonus")
    reward: str = field(help="dominance: rank within the batch by the Pareto rule; tunas; mnas")
    beta: float = field(help="exponent of mnas or factor of tunas; -0.07; not used by dominance")
    floor: float = field(help="least share of a budget that dominance asks for, as the search has a window; 0: PNAG's rule")
    prior: str = field(help="p(r): anchors, or range for all budgets between the lowest and the highest")
    warmup: float = field(help="share of the steps that sample uniformly before the sampler is trained")
    explore: float = field(help="share of uniform architectures afterwards")
    every: int = field(help="supernet steps between two updates of the sampler")
    batch: int = field(help="architectures drawn for each budget of an update; there are as many budgets as anchors")
    scored: int = field(help="how many of an update's architectures are measured, to train the estimator; 0: all, without it")
    images: int = field(help="held-out images of a measurement")
    draws: int = field(help="samples of the decoding where the most probable architecture exceeds its budget")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name, least in (("hidden", 1), ("every", 1), ("batch", 2), ("images", 1), ("draws", 1)):
            at_least(f"sampler.{name}", getattr(self, name), least)
        one_of("sampler.reward", self.reward, REWARDS)
        if self.scored < 0 or self.scored == 1 or (self.scored and self.reward != "dominance"):
            raise StageError(f"params.sampler.scored={self.scored}: expected 0, or with reward=dominance 2 or more to compare")
        one_of("sampler.prior", self.prior, PRIORS)
        for name in ("lr", "entropy"):
            between(f"sampler.{name}", getattr(self, name), 0.0, math.inf)
        between("sampler.floor", self.floor, 0.0, 1.0)
        between("sampler.warmup", self.warmup, 0.0, 1.0)
        between("sampler.explore", self.explore, 0.0, 1.0)
        if not -math.inf < self.beta <= 0.0:
            raise StageError(f"sampler.beta={self.beta}: expected a finite number of 0 or less")


@dataclass
class Params:
    """Everything about a data set's supernets and the budgets they are searched under."""

    space: Space = field(default_factory=Space)
    supernet: Supernet = field(default_factory=Supernet)
    recipe: Recipe = field(default_factory=Recipe)
    sampler: Sampler = field(default_factory=Sampler)
    held_out: int = field(help="training images kept from the supernet, for rewards and fitness")
    budgets: list[float] = field(default_factory=list, help="MACs allowed, as shares of the largest architecture's")

    def check(self) -> None:
        """StageError unless space, supernet and budgets belong together."""
        for name in ("embed", "heads", "ratio", "depth"):
            most = list(getattr(self.space, name))[-1]
            if most > getattr(self.supernet, name):
                raise StageError(f"space.{name}: {most} exceeds the supernet's {getattr(self.supernet, name)}")
        budgets = list(self.budgets)
        if len(budgets) < 2 or budgets != sorted(set(budgets)) or not (budgets[0] > 0.0 and budgets[-1] <= 1.0):
            raise StageError(f"budgets={budgets}: expected two or more different shares in (0, 1] in ascending order")
        at_least("held_out", self.held_out, 1)
        if self.sampler.images > self.held_out:
            raise StageError(f"sampler.images={self.sampler.images}: expected at most held_out={self.held_out}")


@dataclass
class Search:
    """How architectures are searched in a trained supernet, and whether they are trained again."""

    floor: float = field(help="least share of a budget that an architecture must use, as the official search has a window")
    evolution: Evolution = field(default_factory=Evolution, help="amounts of the evolutionary search of one budget")
    depth_probability: float = field(help="probability that a mutation draws a new depth; 0.4")
    layer_probability: float = field(help="probability that it draws a layer's ratio or heads anew; 0.2")
    retrain_epochs: int = field(help="passes of the training from random weights of the found nets; 0 for none")

    def check(self) -> None:
        """StageError for a value out of range."""
        between("search.floor", self.floor, 0.0, 1.0)
        at_least("search.retrain_epochs", self.retrain_epochs, 0)
        for name in ("depth_probability", "layer_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise StageError(f"search.{name}={getattr(self, name)}: expected a probability")
