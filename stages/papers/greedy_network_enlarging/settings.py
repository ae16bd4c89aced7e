"""The parameters of a search and its trainings, as params/greedy_network_enlarging/*.yaml gives them, with their ranges."""

import math
from dataclasses import dataclass
from typing import Any

from stages.lib.checks import at_least, between
from stages.lib.stage import MISSING, StageError, field
from stages.papers.greedy_network_enlarging.allocation import Allocation


@dataclass
class Base:
    """The net that is enlarged, alpha_0."""

    family: str = field(help="plain, ghostnet or efficientnet")
    depths: list[int] = field(default_factory=list, help="blocks of each stage")
    widths: list[int] = field(default_factory=list, help="channels of each stage")
    resolution: int = field(help="side of the input images")
    options: dict[str, Any] = field(default_factory=dict, help="what else the family's record holds")

    def allocation(self) -> Allocation:
        """alpha_0; StageError if the lists do not fit."""
        return Allocation(tuple(self.depths), tuple(self.widths), self.resolution)


@dataclass
class Sizes:
    """A number for each dimension."""

    depth: int = field(help="blocks of a stage")
    width: int = field(help="channels of a stage")
    resolution: int = field(help="pixels a side")

    def of(self, dimension: str) -> int:
        """The number of a dimension."""
        return getattr(self, dimension)


@dataclass
class Search:
    """The ladder of budgets and the moves of a step (section 3)."""

    target: float = field(help="T / M_0, MACs of the enlarged net over the base's, above 1")
    steps: int = field(help="N, budgets T_k = M_0 (T / M_0)^(k / N); the pipeline declares as many steps")
    delta: float = field(help="a candidate's MACs may differ from T_k by this share")
    step: Sizes = field(default_factory=Sizes, help="s_d, s_w, s_r: by how much a dimension grows at a time")
    most: Sizes = field(default_factory=Sizes, help="largest sizes that the search may give")
    exchange: bool = field(help="after each step also try to move MACs between stages, one pass over their ordered pairs")

    def check(self) -> None:
        """StageError for a value out of range."""
        if not 1.0 < self.target < math.inf:
            raise StageError(f"search.target={self.target}: expected a finite number above 1, the base's own MACs")
        if not 0.0 < self.delta < 1.0:
            raise StageError(f"search.delta={self.delta}: expected a share between 0 and 1")
        at_least("search.steps", self.steps, 1)
        for dimension in ("depth", "width", "resolution"):
            at_least(f"search.step.{dimension}", self.step.of(dimension), 1)
            at_least(f"search.most.{dimension}", self.most.of(dimension), 1)


@dataclass
class Recipe:
    """One training. Rates: warmup_lr + (lr - warmup_lr) i / w, then by cosine from lr to final_lr."""

    epochs: int = field(help="passes over the training images")
    lr: float = field(help="learning rate after warm-up")
    warmup: float = field(help="passes of linear warm-up")
    warmup_lr: float = field(help="learning rate at its start")
    final_lr: float = field(help="learning rate at the end")
    momentum: float = field(help="momentum of SGD")
    nesterov: bool = field(help="Nesterov's form of the momentum")
    weight_decay: float = field(help="L2 penalty of all parameters")
    batch: int = field(help="images a step")
    smoothing: float = field(help="label smoothing, in [0, 1)")
    ema: float = field(help="decay of the moving average of the weights that is kept in the end; 0 for none")
    pad: int = field(help="augmentation: pixels of padding before a random crop, 0 for none")
    flip: bool = field(help="augmentation: mirror half of the images")
    limit: int = field(help="training images used, stratified; 0 for all")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("epochs", self.epochs, 1)
        at_least("batch", self.batch, 1)
        at_least("limit", self.limit, 0)
        for key in ("lr", "warmup", "warmup_lr", "final_lr", "weight_decay"):
            between(key, getattr(self, key), 0.0, math.inf)
        for key in ("momentum", "smoothing", "ema"):
            between(key, getattr(self, key), 0.0, 1.0)
        if self.warmup >= self.epochs:
            raise StageError(f"warmup={self.warmup}: expected fewer passes than epochs={self.epochs}")


@dataclass
class Proxy:
    """The evaluator E: short trainings on a part of the training images, measured on a held-out part of them."""

    recipe: Recipe = field(default_factory=Recipe)
    trainings: int = field(help="trainings whose accuracies are averaged; the same seeds for every candidate")
    held_out: float = field(help="share of the training split on which candidates are compared")
    classes: int = field(help="classes of the subset, drawn per repetition; 0 for all")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("proxy.trainings", self.trainings, 1)
        at_least("proxy.classes", self.classes, 0)
        if not 0.0 < self.held_out < 1.0:
            raise StageError(f"proxy.held_out={self.held_out}: expected a share between 0 and 1")


@dataclass
class Uniform:
    """Compound scaling, d^phi d_0, w^phi w_0, r^phi r_0, one phi for all stages."""

    depth: float = field(help="base of the depth, 1.2")
    width: float = field(help="base of the width, 1.1")
    resolution: float = field(help="base of the resolution, 1.15")
    match: float = field(help="share by which a baseline's MACs may differ from the greedy net's")

    def check(self) -> None:
        """StageError for a value out of range."""
        for key in ("depth", "width", "resolution"):
            between(f"uniform.{key}", getattr(self, key), 1.0, 10.0)
        between("uniform.match", self.match, 1e-9, 1.0)


@dataclass
class Random:
    """Allocations drawn without a search. As many are evaluated as cost the MACs of the greedy search."""

    trained: int = field(help="draws, whatever their score, that are trained like the other arms; their mean is the arm random")
    children: int = field(help="random enlargements of the first step's winner, to test that good nets contain good nets")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("random.trained", self.trained, 1)
        at_least("random.children", self.children, 1)


FILES = {
    name: f"greedy_network_enlarging/{{scale}}:{section}{name}"
    for section, name in (("", "repeats"), ("{dataset}.", "net"), ("{dataset}.", "search"), ("{dataset}.", "proxy"))
}


@dataclass
class SearchConfig:
    """What every stage of the search is told; FILES says from where."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed, each with a search of its own")
    threads: int = MISSING
    device: str = MISSING
    net: Base = field(default_factory=Base)
    search: Search = field(default_factory=Search)
    proxy: Proxy = field(default_factory=Proxy)
