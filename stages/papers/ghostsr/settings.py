"""The parameters of a run, as params/ghostsr/*.yaml gives them, with their ranges. No torch here: wrong input is fast."""

import math
from dataclasses import dataclass

from stages.lib.checks import above, at_least, between, one_of
from stages.lib.stage import StageError, field

BACKBONES = ("edsr", "rdn", "carn", "imdn")
FACTORS = (2, 3, 4)


@dataclass
class Backbone:
    """Shape of a super-resolution net."""

    name: str = field(help="edsr, rdn, carn or imdn")
    factor: int = field(help="scale of enlargement: 2, 3 or 4")
    features: int = field(help="channels between the blocks")
    blocks: int = field(help="blocks of the body")
    convs: int = field(default=0, help="convolutions of a dense block; rdn only")
    res_scale: float = field(default=1.0, help="factor of what a residual block adds; edsr only")
    bicubic_skip: bool = field(default=False, help="add the bicubic enlargement, without which a short training stays below it")
    unit: float = field(default=1.0, help="grey levels that the net computes with as 1; 1 in the official code")

    def check(self) -> None:
        """StageError for a value out of range."""
        one_of("net.name", self.name, BACKBONES)
        one_of("net.factor", self.factor, FACTORS)
        for name, least in (("features", 1), ("blocks", 1), ("convs", 1 if self.name == "rdn" else 0)):
            at_least(f"net.{name}", getattr(self, name), least)
        if self.name == "imdn" and self.features % 4:
            raise StageError(f"params.net.features={self.features}: imdn splits off a quarter; expected a multiple of 4")
        for name in ("res_scale", "unit"):
            above(f"net.{name}", getattr(self, name))


@dataclass
class Recipe:
    """One training: Adam on the mean absolute difference of colours, patches drawn at random."""

    steps: int = field(help="updates in all")
    epoch: int = field(help="updates of an epoch, after which the state may be saved")
    batch: int = field(help="patches a step; 16 in the official code")
    patch: int = field(help="side of a low-resolution patch; 192 / factor in the official code")
    lr: float = field(help="learning rate; 1e-4 in the official code")
    warmup: int = field(help="steps of linear warm-up")
    milestones: list[float] = field(default_factory=list, help="shares of the run after which the rate is halved; none: cosine")
    clip: float = field(help="largest norm of the gradients, 0 for no limit")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name, least in (("steps", 1), ("epoch", 1), ("batch", 1), ("patch", 1), ("warmup", 0)):
            at_least(f"recipe.{name}", getattr(self, name), least)
        for name in ("lr", "clip"):
            between(f"recipe.{name}", getattr(self, name), 0.0, math.inf)
        shares = list(self.milestones)
        if shares != sorted(shares) or not all(0.0 < share < 1.0 for share in shares):
            raise StageError(f"params.recipe.milestones={shares}: expected ascending shares of the run between 0 and 1")
        if self.steps % self.epoch:
            raise StageError(f"params.recipe.steps={self.steps}: expected a multiple of epoch={self.epoch}")
        if self.warmup >= self.steps:
            raise StageError(f"params.recipe.warmup={self.warmup}: expected fewer than steps={self.steps}")


@dataclass
class Ghost:
    """The ghost modules and how their offsets are learned."""

    ratio: float = field(help="share of intrinsic maps; 0.5 in the paper")
    radius: int = field(help="farthest offset; 1 in the paper, which gives 9 candidates")
    per_channel: bool = field(help="an offset for each ghost channel; false in the official code: one for a layer")
    logit_rate: float = field(help="learning rate of the logits, as a multiple of the others'; 1 in the official code")
    noise_decay: float = field(help="factor of the noise from epoch to epoch; 0.97 in the official code")
    noise_epochs: float = field(help="epochs that the fine-tuning stands for; 6000 in the official configuration")

    def check(self) -> None:
        """StageError for a value out of range."""
        if not 0.0 < self.ratio <= 1.0:
            raise StageError(f"params.ghost.ratio={self.ratio}: expected a share above 0 and up to 1")
        at_least("ghost.radius", self.radius, 1)
        between("ghost.logit_rate", self.logit_rate, 0.0, math.inf)
        between("ghost.noise_epochs", self.noise_epochs, 0.0, math.inf)
        if not 0.0 < self.noise_decay <= 1.0:
            raise StageError(f"params.ghost.noise_decay={self.noise_decay}: expected a factor above 0 and up to 1")


@dataclass
class Evaluation:
    """How nets are tested."""

    groups: list[str] = field(default_factory=list, help="test sets by name, e.g. Set5; none: all that are prepared")
    ensemble: bool = field(help="average the eight flips and turns (self-ensemble), as in the published table")
    crop: int = field(help="side of the central part of a low-resolution image that is tested; 0: all of it")
    tile: int = field(help="side of overlapping tiles of a low-resolution image; 0: the image as a whole")
    margin: int = field(help="pixels of a tile's sides that are dropped")
    pictures: int = field(help="images kept for the figure")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("crop", "tile", "margin", "pictures"):
            at_least(f"evaluate.{name}", getattr(self, name), 0)
        if self.tile and self.tile <= 2 * self.margin:
            raise StageError(f"params.evaluate.tile={self.tile}: expected more than twice margin={self.margin}")
