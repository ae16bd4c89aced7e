"""Parameters that several stages share, with their ranges. No torch here: wrong input answers fast."""

from dataclasses import dataclass

from stages.lib.checks import at_least, between, one_of
from stages.lib.stage import StageError, field
from stages.papers.close import curriculum
from stages.papers.close.space import OPERATIONS

ARMS = ("close", "vanilla", "glow_1", "glow_3", "random_gate", "arch_gate")
SAMPLED = "close_sampled"  # close's supernet, scored as the official code does, with Gumbel noise in the gate
CHOICE = "random_choice"  # an architecture of the table drawn at random: what a search is set beside


@dataclass
class Candidates:
    """The architectures whose ranking is measured."""

    operations: list[str] = field(help="operations that cells may have")
    architectures: int = field(help="how many cells are drawn, of the classes with a live convolution")
    seed: int = field(help="seed of the draw")

    def check(self) -> None:
        """StageError for an unknown operation or an empty space."""
        if unknown := [name for name in self.operations if name not in OPERATIONS]:
            raise StageError(f"space.operations: unknown operation {unknown[0]}; expected some of {', '.join(OPERATIONS)}")
        if not {"nor_conv_1x1", "nor_conv_3x3"} & set(self.operations):
            raise StageError("space.operations: no cell has a convolution between input and output; allow one")
        at_least("space.architectures", self.architectures, 2)


@dataclass
class Division:
    """How the training split is divided: weights are trained on one part, sub-networks scored on the other."""

    train: int = field(help="images that train supernets and stand-alone nets")
    score: int = field(help="other images of the training split, on which one-shot scores are measured")
    seed: int = field(help="seed of the stratified division")

    def check(self) -> None:
        """StageError for an empty part."""
        at_least("data.train", self.train, 1)
        at_least("data.score", self.score, 1)


@dataclass
class Supernets:
    """Training of a supernet; all arms have the same steps, images and architectures."""

    epochs: int = field(help="passes over the training images")
    batch: int = field(help="images a step; each step trains one architecture")
    lr: float = field(help="learning rate at the start and at the restart")
    momentum: float = field(help="momentum of SGD")
    weight_decay: float = field(help="L2 penalty")
    clip: float = field(help="largest norm of the gradient of all parameters")
    patience: int = field(help="epochs without a lower training loss before the rate falls")
    factor: float = field(help="what the rate is multiplied with then")
    restart: int = field(help="SRT: epoch at which optimiser and rate start afresh, for every arm; 0 for none")
    schedule: list[int] = field(help="epochs, from 1, at which each level of the curriculum starts; as many as blocks")
    wit_from: str = field(help="block that a new one inherits from: prev, random")
    gate_at_level: str = field(help="gate at a new level: inherit, or start afresh the last layer or the mlp")
    checkpoints: list[int] = field(help="epochs after which the architectures are scored, in order")

    def check(self) -> None:
        """StageError for a value out of range or a schedule that does not fit the epochs."""
        for key, least in (("epochs", 1), ("batch", 2), ("patience", 0), ("restart", 0)):
            at_least(f"supernet.{key}", getattr(self, key), least)
        for key in ("lr", "momentum", "weight_decay", "clip", "factor"):
            between(f"supernet.{key}", getattr(self, key), 0.0, float("inf"))
        curriculum.check(self.schedule, self.epochs, len(self.schedule), "supernet.schedule")
        if self.restart > self.epochs:
            raise StageError(f"supernet.restart={self.restart}: the run has {self.epochs} epochs")
        points = self.checkpoints
        if not points or points != sorted(set(points)) or points[0] < 1 or points[-1] != self.epochs:
            raise StageError(f"supernet.checkpoints={points}: expected rising epochs, the last one {self.epochs}")
        one_of("supernet.wit_from", self.wit_from, ("prev", "random"))
        one_of("supernet.gate_at_level", self.gate_at_level, ("inherit", "last", "mlp"))


@dataclass
class Truth:
    """Stand-alone training of the table."""

    seeds: int = field(help="trainings of each architecture; the truth is their mean")
    seed: int = field(help="first of them")
    epochs: int = field(help="passes over the training images")
    batch: int = field(help="images a step")
    lr: float = field(help="learning rate; falls by cosine")
    weight_decay: float = field(help="L2 penalty")
    together: int = field(help="nets trained at once in one process; does not change the nets but for rounding")

    def check(self) -> None:
        """StageError for a value out of range."""
        for key in ("seeds", "epochs", "together"):
            at_least(f"truth.{key}", getattr(self, key), 1)
        at_least("truth.batch", self.batch, 2)
        for key in ("lr", "weight_decay"):
            between(f"truth.{key}", getattr(self, key), 0.0, float("inf"))


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="images a step")
    steps: int = field(help="optimisation steps at each level")
    scored: int = field(help="architectures of the search step")
    images: int = field(help="images in all")

    def check(self) -> None:
        """StageError for amounts out of range."""
        for key, least in (("batch", 2), ("steps", 1), ("scored", 2), ("images", 2)):
            at_least(key, getattr(self, key), least)


def known_arm(name: str) -> str:
    """The name itself; StageError that lists the arms where there is none of it."""
    if name not in ARMS:
        raise StageError(f"arm={name}: there is no such arm; choose one of {', '.join(ARMS)}")
    return name
