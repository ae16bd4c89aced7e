"""The parameters of a run, as params/srs/*.yaml gives them, with their ranges. No torch here: wrong input is fast."""

import math
from dataclasses import dataclass
from typing import Any

from stages.lib.checks import above, at_least, between, one_of
from stages.lib.stage import StageError, field
from stages.papers.srs import feasible
from stages.papers.srs.names import find_arms

FLOW_ARMS = ("relu", "elu", "softplus", "tanh", "swish", "srs", "srs_frozen")  # those whose Lipschitz constant is known
SCHEDULES = ("constant", "cosine", "step")


@dataclass
class Activation:
    """Where SRS starts and how it stays feasible."""

    preset: str = field(help="arxiv: alpha 5, beta 3; alt: 3, 2; prcv: 2, 3; own: the two values below")
    alpha: float = field(help="alpha at the start, for preset own")
    beta: float = field(help="beta at the start, for preset own; below e alpha")
    constraint: str = field(help="project: onto the feasible set after each step; clamp: in the forward pass")

    def start(self) -> tuple[float, float]:
        """(alpha, beta) that training starts from."""
        return (self.alpha, self.beta) if self.preset == "own" else feasible.preset(self.preset)

    def check(self) -> None:
        """StageError for an impossible pair or an unknown name."""
        if self.preset != "own":
            feasible.preset(self.preset)
        feasible.check(*self.start())
        one_of("activation.constraint", self.constraint, feasible.CONSTRAINTS)


@dataclass
class Sweep:
    """Deep narrow nets from different initialisations, with and without BN."""

    arms: list[str] = field(default_factory=list, help="activations, compared on the same data order and initial weights")
    activation: Activation = field(default_factory=Activation)
    depth: int = field(help="hidden layers")
    width: int = field(help="units of a hidden layer")
    scales: list[float] = field(
        default_factory=list, help="s of the weights N(0, s^2 / fan_in) of hidden layers; 1.4142 is He's; an activation's own "
        "variance-preserving s is one more",
    )  # fmt: skip
    epochs: int = field(help="passes over the training images")
    batch: int = field(help="images a step")
    lr: float = field(help="learning rate of SGD")
    momentum: float = field(help="momentum of SGD")
    weight_decay: float = field(help="L2 penalty of matrices; biases, BN and the activations' parameters have none")
    clip: float = field(help="largest norm of a net's whole gradient")
    schedule: str = field(help="how the rate falls: constant, cosine, step (to a tenth at each milestone)")
    milestones: list[float] = field(default_factory=list, help="shares of the run, for schedule step")

    def check(self) -> None:
        """StageError for a value out of range."""
        find_arms(self.arms)
        for name in ("depth", "width", "epochs"):
            at_least(name, getattr(self, name), 1)
        at_least("batch", self.batch, 2)
        ascending("scales", list(self.scales))
        between("momentum", self.momentum, 0.0, 1.0)
        for name in ("lr", "weight_decay"):
            between(name, getattr(self, name), 0.0, math.inf)
        above("clip", self.clip)
        one_of("schedule", self.schedule, SCHEDULES)


@dataclass
class Net:
    """A convolutional net whose ReLUs are replaced."""

    name: str = field(help="a family of stages.lib.models")
    options: dict[str, Any] = field(default_factory=dict, help="its options, without classes")


@dataclass
class Train:
    """Convolutional nets, each activation put in the place of every ReLU."""

    arms: list[str] = field(default_factory=list, help="activations")
    activation: Activation = field(default_factory=Activation)
    granularity: str = field(help="layer: one pair (alpha, beta) a call site; channel: one a channel")
    net: Net = field(default_factory=Net)
    images: int = field(help="training images, classes in equal shares; 0 for all")
    epochs: int = field(help="passes over them")
    batch: int = field(help="images a step")
    lr: float = field(help="learning rate of SGD with momentum 0.9")
    milestones: list[float] = field(default_factory=list, help="shares of the run where the rate falls to a tenth; else cosine")
    weight_decay: float = field(help="L2 penalty of convolutions and linear maps")
    pad: int = field(help="zeros around an image before a random crop")
    flip: bool = field(help="mirror half of the images")

    def check(self) -> None:
        """StageError for a value out of range."""
        find_arms(self.arms, TRAIN_ARMS)
        one_of("granularity", self.granularity, ("layer", "channel"))
        for name, least in (("images", 0), ("epochs", 1), ("batch", 2), ("pad", 0)):
            at_least(name, getattr(self, name), least)
        for name in ("lr", "weight_decay"):
            between(name, getattr(self, name), 0.0, math.inf)


TRAIN_ARMS = ("relu", "elu", "swish", "srs", "srs_frozen")


@dataclass
class Grammar:
    """Generated sentence pairs: a permutation of the tokens, chosen by the first one, and reversal within segments."""

    tokens: int = field(help="tokens besides the separator and the marks")
    permutations: int = field(help="permutations; the first token of a source names one")
    shortest: int = field(help="least length of a source")
    longest: int = field(help="greatest length of a source")
    separator: float = field(help="share of separators among the tokens after the first")
    train: int = field(help="sentence pairs to train on")
    test: int = field(help="sentence pairs to measure on")

    def check(self) -> None:
        """StageError for an impossible grammar."""
        at_least("grammar.tokens", self.tokens, 2)
        for name in ("permutations", "shortest", "train", "test"):
            at_least(f"grammar.{name}", getattr(self, name), 1)
        if self.permutations > self.tokens:
            raise StageError(f"params.grammar.permutations={self.permutations}: expected at most tokens={self.tokens}")
        if self.longest < self.shortest:
            raise StageError(f"params.grammar.longest={self.longest}: expected shortest={self.shortest} or more")
        between("grammar.separator", self.separator, 0.0, 1.0)


@dataclass
class Shape:
    """A Transformer's shape."""

    width: int = field(help="of embeddings")
    heads: int = field(help="of every attention; must divide the width")
    hidden: int = field(help="of feed-forward layers, where the activations are")
    encoder: int = field(help="layers of the encoder")
    decoder: int = field(help="layers of the decoder")

    def check(self) -> None:
        """StageError for an impossible shape."""
        for name in ("width", "heads", "hidden", "encoder", "decoder"):
            at_least(f"net.{name}", getattr(self, name), 1)
        if self.width % self.heads or self.width % 2:
            raise StageError(f"params.net.width={self.width}: expected an even multiple of heads={self.heads}")


@dataclass
class Translation:
    """Transformers that differ in the activation of their feed-forward layers."""

    arms: list[str] = field(default_factory=list, help="activations")
    activation: Activation = field(default_factory=Activation)
    grammar: Grammar = field(default_factory=Grammar)
    net: Shape = field(default_factory=Shape)
    epochs: int = field(help="passes over the sentence pairs")
    batch: int = field(help="sentence pairs a step")
    lr: float = field(help="greatest learning rate of Adam")
    warmup: float = field(help="share of the run in which the rate rises; then it falls by cosine")
    smoothing: float = field(help="label smoothing")

    def check(self) -> None:
        """StageError for a value out of range."""
        find_arms(self.arms)
        at_least("epochs", self.epochs, 1)
        at_least("batch", self.batch, 1)
        between("lr", self.lr, 0.0, math.inf)
        between("warmup", self.warmup, 0.0, 1.0)
        between("smoothing", self.smoothing, 0.0, 1.0)


@dataclass
class Generation:
    """Invertible residual nets that differ in their activation."""

    arms: list[str] = field(default_factory=list, help="activations")
    activation: Activation = field(default_factory=Activation)
    blocks: int = field(help="residual blocks x + g(x)")
    hidden: int = field(help="units of a block's hidden layer")
    contraction: float = field(help="bound of every g's Lipschitz constant, below 1")
    gain: float = field(help="factor that spreads points out before the first block; the last scale begins with its inverse")
    train: int = field(help="points to train on")
    test: int = field(help="points to measure on")
    epochs: int = field(help="passes over the points")
    batch: int = field(help="points a step")
    lr: float = field(help="learning rate of Adam at the start; it falls by cosine")
    iterations: int = field(help="fixed-point steps of the inverse when reconstruction is measured")

    def check(self) -> None:
        """StageError for a value out of range."""
        find_arms(self.arms, FLOW_ARMS)
        for name in ("blocks", "hidden", "train", "test", "epochs", "batch", "iterations"):
            at_least(name, getattr(self, name), 1)
        between("lr", self.lr, 0.0, math.inf)
        above("gain", self.gain)
        if not 0.0 < self.contraction < 1.0:
            raise StageError(f"params.contraction={self.contraction}: expected between 0 and 1, or blocks are not invertible")


def ascending(key: str, values: list[float]) -> None:
    """StageError unless there are two or more different positive values in ascending order."""
    if len(values) < 2 or values != sorted(set(values)) or not (values[0] > 0.0 and values[-1] < math.inf):
        raise StageError(f"params.{key}={values}: expected two or more different numbers above 0 in ascending order")
