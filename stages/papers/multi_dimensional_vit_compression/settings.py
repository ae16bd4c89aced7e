"""The parameters of a run, as params/multi_dimensional_vit_compression/*.yaml gives them, with their ranges. No torch here."""

import math
from dataclasses import dataclass

from stages.lib.checks import at_least, between, one_of
from stages.lib.stage import MISSING, StageError, field
from stages.lib.vit.settings import Recipe

ROUNDINGS = ("round", "floor")
TOKEN_COUNTS = ("real", "published")


@dataclass
class Images:
    """Images pasted on a larger canvas, so that many patches show background."""

    side: int = field(help="side of the canvas in pixels; the image's own side leaves images as they are")
    shift: int = field(help="largest distance of an image from the middle of the canvas, in pixels")
    copies: int = field(help="places that each image is pasted at")
    clutter: int = field(help="4x4 pieces of other images beside each")
    noise: float = field(help="standard deviation of the background, of pixels in [0, 1]")
    held_out: int = field(help="training images kept from training, on which the search scores its candidates")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name, least in (("side", 1), ("shift", 0), ("copies", 1), ("clutter", 0), ("held_out", 1)):
            at_least(f"images.{name}", getattr(self, name), least)
        at_least("images.noise", self.noise, 0)


@dataclass
class Net:
    """Shape of the dense transformer."""

    patch: int = field(help="side of a patch in pixels")
    embed: int = field(help="width of a token")
    depth: int = field(help="number of blocks")
    heads: int = field(help="heads of a block")
    hidden: int = field(help="neurons of a block's MLP")
    deviation: float = field(help="standard deviation of initial weights; 0.02 in the paper")
    drop_path: float = field(help="largest rate of stochastic depth, reached by the last block")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("patch", "embed", "depth", "heads", "hidden"):
            at_least(f"net.{name}", getattr(self, name), 1)
        between("net.deviation", self.deviation, 0.0, math.inf)
        between("net.drop_path", self.drop_path, 0.0, 1.0)
        if self.embed % self.heads:
            raise StageError(f"params.net.heads={self.heads}: does not divide the width net.embed={self.embed}")


@dataclass
class Train:
    """The dense net and what it is trained on and by."""

    images: Images = field(default_factory=Images)
    net: Net = field(default_factory=Net)
    recipe: Recipe = field(default_factory=Recipe)


@dataclass
class Ranking:
    """Which heads and neurons are dispensable (section 3.1 of the specification)."""

    batch: int = field(help="training images that dependence is measured on; 128 in the official command")
    widths: list[float] = field(default_factory=list, help="of the Gaussian kernels, whose mean is used; 1, 2, 4, 8, 16")
    standardise: bool = field(help="features to mean 0 and deviation 1; false: x - mean / deviation, the official code's slip")
    lambda_hsic: float = field(help="weight of HSIC beside the activations' size; 0.1 in the code, 1 for HSIC alone")
    mu_redundancy: float = field(help="weight of a head's mean HSIC with the other heads; 0.1")
    momentum: float = field(help="of the running mean of the positions' HSIC, where tokens are scored by it; 0.996")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("ranking.batch", self.batch, 2)
        if not list(self.widths) or not all(0.0 < width < math.inf for width in self.widths):
            raise StageError(f"params.ranking.widths={list(self.widths)}: expected finite numbers above 0")
        between("ranking.mu_redundancy", self.mu_redundancy, 0.0, math.inf)
        between("ranking.momentum", self.momentum, 0.0, 1.0)
        if not 0.0 <= self.lambda_hsic <= 1.0:
            raise StageError(f"params.ranking.lambda_hsic={self.lambda_hsic}: expected a share in [0, 1]")


@dataclass
class Search:
    """The budget, the policies that may be tried, and how many are (section 3.5)."""

    budget: float = field(help="FLOPs of a compressed net, as a share of the dense net's; 0.6 in the paper's abstract")
    tight: float = field(help="the same for the arms of the smaller budget; about 0.4 in the official code")
    tolerance: float = field(help="allowed distance of a policy's FLOPs from the budget, as a share of it; 0.02")
    bound: float = field(help="largest sparsity of each dimension in the joint search; 0.5")
    bound_alone: float = field(help="the same where one dimension has to meet the budget alone")
    reduce: list[int] = field(default_factory=list, help="blocks, counted from 1, that reduce tokens; 4, 7, 10 in the paper")
    tokens: str = field(help="real: FLOPs count the fused token; published: they do not, as in the official code")
    rounding: str = field(help="of the number of heads; floor always removes one, as in the official code")
    initial: int = field(help="random policies before the first model; 100 in the paper")
    steps: int = field(help="policies chosen by expected improvement; 100 in the paper")
    pool: int = field(help="random feasible policies among which a step chooses; 10000 in the paper")
    near: float = field(help="share of the pool that is drawn around the best policy so far; 0 in the paper")
    spread: float = field(help="standard deviation of those draws, as a share of the bound")
    restarts: int = field(help="restarts of the fit of the kernel; 10")
    jitter: float = field(help="variance added to the diagonal of the kernel matrix; 1e-5")
    normalise: bool = field(help="scores to mean 0 and deviation 1 before a fit; false in the official code")
    draws: int = field(help="random policies looked at for a feasible one before the budget counts as out of reach")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name, least in (("initial", 2), ("steps", 0), ("pool", 1), ("restarts", 0), ("draws", 1)):
            at_least(name, getattr(self, name), least)
        for name in ("budget", "tight", "bound", "bound_alone"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise StageError(f"params.{name}={getattr(self, name)}: expected a share between 0 and 1")
        for name, low, high in (("tolerance", 0.0, 1.0), ("near", 0.0, 1.0), ("jitter", 0.0, math.inf)):
            between(name, getattr(self, name), low, high)
        between("spread", self.spread, 0.0, math.inf)
        one_of("tokens", self.tokens, TOKEN_COUNTS)
        one_of("rounding", self.rounding, ROUNDINGS)
        if list(self.reduce) != sorted(set(self.reduce)) or not list(self.reduce) or self.reduce[0] < 1:
            raise StageError(f"params.reduce={list(self.reduce)}: expected different blocks from 1 on, in ascending order")

    @property
    def evaluations(self) -> int:
        """Policies that one search scores."""
        return self.initial + self.steps


@dataclass
class Compress:
    """All of the search stage."""

    ranking: Ranking = field(default_factory=Ranking)
    search: Search = field(default_factory=Search)


@dataclass
class SearchConfig:
    """What the stages `search` and `finetune` have in common."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    train: Train = field(default_factory=Train)
