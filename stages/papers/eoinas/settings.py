"""The parameters of the stages, as params/eoinas/*.yaml gives them, with their ranges. No torch here."""

import math
from dataclasses import dataclass

from stages.lib.checks import at_least, between, one_of
from stages.lib.stage import StageError, field

CANDIDATES = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip  # stages.lib.darts.OPERATIONS, which would import torch; a test compares them


@dataclass
class Images:
    """What is done to the prepared pictures."""

    canvas: int = field(help="side onto which each picture is put at a random place; 0 leaves pictures as they are")
    noise: float = field(help="s.d. of the Gaussian noise added, for pixels in [0, 1]")
    limit: int = field(help="training pictures used, stratified; 0 for all")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("images.canvas", self.canvas, 0)
        at_least("images.limit", self.limit, 0)
        between("images.noise", self.noise, 0.0, math.inf)


@dataclass
class SpaceParams:
    """The supernet."""

    operations: list[str] = field(default_factory=list, help="candidates of every edge, in the order of the DARTS space")
    nodes: int = field(help="intermediate nodes of a cell; 4 in the paper")
    cells: int = field(help="cells in a row; reductions at a third and two thirds")
    channels: int = field(help="C, width of the first cell")
    stem: str = field(help="cifar: one convolution; imagenet: three of stride 2")

    def check(self) -> None:
        """StageError for a space that is empty or unknown."""
        unknown = [name for name in self.operations if name not in CANDIDATES]
        if unknown:
            raise StageError(f"space.operations: {unknown[0]!r} is unknown; expected some of {', '.join(CANDIDATES)}")
        if len(set(self.operations)) != len(self.operations):
            raise StageError("space.operations: an operation is named twice; expected different ones")
        if len(set(self.operations) - {"none"}) < 1 or len(self.operations) < 2:
            raise StageError("space.operations: expected two or more with at least one besides none, else nothing is searched")
        at_least("space.nodes", self.nodes, 1)
        at_least("space.cells", self.cells, 3)
        at_least("space.channels", self.channels, 2)
        one_of("space.stem", self.stem, ("cifar", "imagenet"))


@dataclass
class SearchParams:
    """Training of the supernet, of the architecture parameters, and when operations are given up."""

    epochs: int = field(help="E, passes over the half of the training pictures that trains the weights")
    warmup: int = field(help="passes before the first architecture step")
    prune: list[int] = field(default_factory=list, help="passes after which each edge gives up an operation; the last is E")
    checkpoint: int = field(help="the one of them before which the state is kept for the fidelity test; 0 for none")
    batch: int = field(help="pictures a step")
    lr: float = field(help="learning rate of the weights at the start; it falls to 0 by cosine, once a pass")
    momentum: float = field(help="momentum of SGD")
    weight_decay: float = field(help="L2 penalty on the weights")
    clip: float = field(help="largest norm of the gradient, of the weights and of the architecture parameters")
    alpha_lr: float = field(help="learning rate of Adam on the architecture parameters")
    alpha_betas: list[float] = field(default_factory=list, help="Adam's two decay rates")
    alpha_decay: float = field(help="L2 penalty on the architecture parameters")
    alpha_init: float = field(help="s.d. of their first values")
    temperature: float = field(help="tau of the Gumbel softmax while warming up")
    temperature_decay: float = field(help="its factor a pass afterwards")
    dropout: float = field(help="of entries of skip connections at the start")
    dropout_decay: float = field(help="after warm-up: dropout exp(-dropout_decay (e - warmup))")
    indicator: float = field(help="lambda, weight of accuracy over draws; accuracy in percent")
    accuracy: str = field(help="of an operation: mean of the batches on which it was drawn, or the last one (official code)")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("search.epochs", self.epochs, 1)
        at_least("search.batch", self.batch, 1)
        if not 0 <= self.warmup < self.epochs:
            raise StageError(f"search.warmup={self.warmup}: expected from 0 to fewer than epochs={self.epochs}")
        if sorted(set(self.prune)) != self.prune or not self.prune or self.prune[0] <= self.warmup:
            raise StageError(f"search.prune={self.prune}: expected rising passes after warmup={self.warmup}")
        if self.prune[-1] != self.epochs:
            raise StageError(f"search.prune={self.prune}: expected its last to be epochs={self.epochs}")
        if self.checkpoint and self.checkpoint not in self.prune:
            raise StageError(f"search.checkpoint={self.checkpoint}: expected 0 or one of prune={self.prune}")
        for key in ("lr", "weight_decay", "alpha_lr", "alpha_decay", "alpha_init", "dropout_decay", "indicator"):
            between(f"search.{key}", getattr(self, key), 0.0, math.inf)
        for key in ("momentum", "dropout"):
            between(f"search.{key}", getattr(self, key), 0.0, 1.0)
        if len(self.alpha_betas) != 2 or not all(0 <= beta < 1 for beta in self.alpha_betas):
            raise StageError(f"search.alpha_betas={self.alpha_betas}: expected two numbers in [0, 1)")
        for key in ("temperature", "temperature_decay", "clip"):
            between(f"search.{key}", getattr(self, key), 1e-6, math.inf)
        one_of("search.accuracy", self.accuracy, ("mean", "last"))

    def fits(self, space: SpaceParams) -> None:
        """StageError unless the drops leave one operation on each edge."""
        if len(self.prune) != len(space.operations) - 1:
            raise StageError(
                f"search.prune={self.prune}: {len(space.operations)} operations need {len(space.operations) - 1} drops"
            )
        if self.checkpoint and len(space.operations) - self.prune.index(self.checkpoint) < 3:
            raise StageError(f"search.checkpoint={self.checkpoint}: expected a point with three operations left or more")


@dataclass
class NetParams:
    """The net of a found genotype."""

    cells: int = field(help="cells in a row")
    channels: int = field(help="C, width of the first cell")
    stem: str = field(help="cifar or imagenet")


@dataclass
class TrainParams:
    """Training of a genotype's net from scratch."""

    epochs: int = field(help="passes over the training pictures")
    batch: int = field(help="pictures a step")
    lr: float = field(help="learning rate at the start")
    lr_decay: float = field(help="its factor a pass; 0: cosine to 0 instead")
    momentum: float = field(help="momentum of SGD")
    weight_decay: float = field(help="L2 penalty")
    clip: float = field(help="largest norm of the gradient")
    smoothing: float = field(help="label smoothing, in [0, 1)")
    drop_path: float = field(help="probability of drop-path at the end; it grows linearly from 0")
    auxiliary: float = field(help="weight of the auxiliary head's loss; 0: no such head")
    pad: int = field(help="augmentation: pixels of padding before a random crop")
    flip: bool = field(help="augmentation: mirror half of the pictures")
    cutout: int = field(help="augmentation: side of a square set to 0; 0 for none")

    def check(self) -> None:
        """StageError for a value out of range."""
        for key in ("epochs", "batch"):
            at_least(f"train.{key}", getattr(self, key), 1)
        for key in ("pad", "cutout"):
            at_least(f"train.{key}", getattr(self, key), 0)
        for key in ("lr", "lr_decay", "weight_decay", "auxiliary"):
            between(f"train.{key}", getattr(self, key), 0.0, math.inf)
        for key in ("momentum", "smoothing", "drop_path"):
            between(f"train.{key}", getattr(self, key), 0.0, 1.0)
        between("train.clip", self.clip, 1e-6, math.inf)


@dataclass
class RandomParams:
    """Random search: draws are trained for a while until the cost of EoiNAS's search is used up."""

    epochs: int = field(help="passes of each draw over the half of the training pictures that trains weights")
    lr: float = field(help="learning rate of those passes")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("random.epochs", self.epochs, 1)
        between("random.lr", self.lr, 0.0, math.inf)


@dataclass
class FidelityParams:
    """The fidelity test."""

    images: int = field(help="held-out training pictures on which an operation's worth is measured; 0 for all")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("fidelity.images", self.images, 0)


@dataclass
class PlantedParams:
    """The planted candidate."""

    replaced: str = field(help="the operation in whose place noise stands on every edge")
    drops: int = field(help="drops after which it is counted on how many edges it is left")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("planted.drops", self.drops, 1)
