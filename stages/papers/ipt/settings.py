"""The parameters of a run, as params/ipt/*.yaml gives them, with their ranges. No torch here: wrong input is fast."""

import math
from dataclasses import dataclass

from stages.lib.checks import at_least, between, one_of
from stages.lib.stage import MISSING, StageError, field
from stages.papers.ipt.tasks import task

POSITIONS = ("once", "every", "none")
INITS = ("torch", "mindspore")
FORMS = ("code", "paper")
SOURCES = ("div2k", "imagenet")
SCHEDULES = ("step", "cosine")


@dataclass
class Net:
    """Shape of the transformer."""

    features: int = field(help="C, channels of heads and tails; 64 in the paper")
    image: int = field(help="side of the patches that the body takes; 48 in the paper")
    patch_dim: int = field(help="P, side of a token in pixels; 3 in the paper")
    heads: int = field(help="attention heads; 12 in the paper")
    layers: int = field(help="L, layers of the encoder and of the decoder; 12 in the paper, 4 in the MindSpore release")
    ratio: int = field(help="width of a feed-forward layer, in widths of a token; 4")
    head_blocks: int = field(help="residual blocks of a task's head; 2")
    head_kernel: int = field(help="side of their kernels; 5")
    positions: str = field(help="once: learned positions are added to the body's input; every: to keys and queries; none")
    mlp: bool = field(help="linear encoding, last MLP and task queries (option no_mlp of the official code leaves them out)")
    norm: bool = field(help="layer norms (option no_norm of the official code leaves them out and scales linear weights)")
    init: str = field(help="torch: as the official net starts; mindspore: as the official trainer starts it")
    input_skip: bool = field(help="add the enlarged input, and start from just that; not in the paper: for short runs")
    unit: float = field(help="grey levels that the net counts as 1 inside; 1 in the paper")

    @property
    def width(self) -> int:
        """d = C P^2, numbers of a token."""
        return self.features * self.patch_dim**2

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layers."""
        return self.ratio * self.width

    @property
    def tokens(self) -> int:
        """N, tokens of a patch."""
        return (self.image // self.patch_dim) ** 2

    def check(self) -> None:
        """StageError for a value out of range or values that do not fit."""
        for name in ("features", "image", "patch_dim", "heads", "layers", "ratio", "head_kernel"):
            at_least(f"net.{name}", getattr(self, name), 1)
        at_least("net.head_blocks", self.head_blocks, 0)
        one_of("net.positions", self.positions, POSITIONS)
        one_of("net.init", self.init, INITS)
        if self.image % self.patch_dim:
            raise StageError(f"net.patch_dim={self.patch_dim}: does not divide net.image={self.image}")
        if self.width % self.heads:
            raise StageError(f"net.heads={self.heads}: does not divide a token's {self.width} numbers")
        if self.head_kernel % 2 == 0:
            raise StageError(f"net.head_kernel={self.head_kernel}: expected an odd number")
        if not 0 < self.unit < math.inf:
            raise StageError(f"net.unit={self.unit}: expected a finite number above 0")


@dataclass
class Recipe:
    """One training with Adam: how long, with what batches, at what rate."""

    steps: int = field(help="updates")
    batch: int = field(help="patches a step, all of one task")
    lr: float = field(help="learning rate at the start, of the transformer")
    lr_cnn: float = field(help="the same of the convolutional peers")
    schedule: str = field(help="step: times gamma at each milestone; cosine: down to 0 at the end")
    milestones: list[float] = field(default_factory=list, help="where the rate falls, as shares of the run (step)")
    gamma: float = field(help="factor at a milestone (step)")
    clip: float = field(help="largest gradient norm of each tensor on its own; 0: no limit")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("steps", self.steps, 1)
        at_least("batch", self.batch, 1)
        one_of("schedule", self.schedule, SCHEDULES)
        for name in ("lr", "lr_cnn", "gamma", "clip"):
            between(name, getattr(self, name), 0.0, math.inf)
        for share in self.milestones:
            between("milestones", share, 0.0, 1.0)


@dataclass
class Contrastive:
    """The contrastive term of pre-training."""

    weight: float = field(help="lambda; 0.1")
    form: str = field(help="code: as in the authors' training code; paper: as printed")
    tau: float = field(help="temperature of the code form; 0.07")
    max_tokens: int = field(help="tokens of an image that take part, drawn at each step; 0: all")

    def check(self) -> None:
        """StageError for a value out of range."""
        between("contrastive.weight", self.weight, 0.0, math.inf)
        one_of("contrastive.form", self.form, FORMS)
        if not 0 < self.tau < math.inf:
            raise StageError(f"contrastive.tau={self.tau}: expected a finite number above 0")
        if self.max_tokens == 1 or self.max_tokens < 0:
            raise StageError(f"contrastive.max_tokens={self.max_tokens}: expected 0 for all, or 2 or more")


@dataclass
class Pretrain:
    """Pre-training on corrupted copies of many photographs."""

    source: str = field(help="div2k: its training photographs; imagenet: ImageNet's, through its index")
    photographs: list[str] = field(default_factory=list, help="names of those of div2k that are used; empty: all")
    rain: list[str] = field(default_factory=list, help="names of the rain set's training images that give streaks; empty: all")
    tasks: list[str] = field(default_factory=list, help="tasks that have a head and a tail; a step draws one of them")
    single: str = field(help="the one task of the arm that is pre-trained on a single task")
    recipe: Recipe = field(default_factory=Recipe)
    contrastive: Contrastive = field(default_factory=Contrastive)

    def check(self) -> None:
        """StageError for unknown tasks or none."""
        one_of("pretrain.source", self.source, SOURCES)
        known = [task(name).name for name in self.tasks]
        if not known or len(set(known)) != len(known):
            raise StageError(f"pretrain.tasks={known}: expected one or more different tasks")
        one_of("pretrain.single", self.single, tuple(known))


@dataclass
class Target:
    """A task of fine-tuning, and the pre-training task whose head, tail and query it starts from."""

    task: str = field(help="sr2, sr3, sr4, derain or denoise<sigma>")
    start: str = field(help="a task of pretrain.tasks with the same scale")


@dataclass
class Measurement:
    """How images are restored and measured."""

    crop: int = field(help="side of the middle of a clean image that is measured; 0: all of it")
    stride: int = field(help="pixels between two tiles of the transformer; 12 in the paper")
    margin: int = field(help="pixels dropped on each side of a tile; 12 in the paper")
    chunk: int = field(help="tiles at a time")
    ensemble: bool = field(help="mean over eight turns of the image")
    kept: int = field(help="restored images of a task that are kept for the pictures, of the first repetition")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name, least in (("crop", 0), ("stride", 1), ("margin", 0), ("chunk", 1), ("kept", 1)):
            at_least(f"measure.{name}", getattr(self, name), least)


@dataclass
class Peers:
    """The convolutional peers, of about the transformer's parameters."""

    features: int = field(help="channels of EDSR")
    blocks: int = field(help="its residual blocks")
    dncnn_features: int = field(help="channels of DnCNN")
    dncnn_depth: int = field(help="its convolutions; 17 in that paper, with 64 channels")
    dncnn_momentum: float = field(help="share of a step in its running statistics; 0.1, too slow for short training")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name, least in (("features", 1), ("blocks", 0), ("dncnn_features", 1), ("dncnn_depth", 2)):
            at_least(f"peers.{name}", getattr(self, name), least)
        between("peers.dncnn_momentum", self.dncnn_momentum, 0.0, 1.0)


@dataclass
class Finetune:
    """Fine-tuning on few photographs, and the measurement."""

    photographs: list[str] = field(default_factory=list, help="names of those of div2k that are used; empty: all")
    rain: list[str] = field(default_factory=list, help="names of the rain set's training pairs that are used; empty: all")
    targets: list[Target] = field(default_factory=list, help="what is fine-tuned, each from the same pre-trained net")
    recipe: Recipe = field(default_factory=Recipe)
    scratch_lr: float = field(help="learning rate of the transformer from scratch")
    scratch_lr_cnn: float = field(help="the same of the convolutional peers")

    def check(self) -> None:
        """StageError for unknown tasks, or a start whose tail gives another size."""
        names = [target.task for target in self.targets]
        if not names or len(set(names)) != len(names):
            raise StageError(f"finetune.targets={names}: expected one or more different tasks")
        for name in ("scratch_lr", "scratch_lr_cnn"):
            between(f"finetune.{name}", getattr(self, name), 0.0, math.inf)
        for target in self.targets:
            if task(target.task).scale != task(target.start).scale:
                raise StageError(f"finetune.targets: {target.task} cannot start from {target.start}: its scale differs")


# Where the keys outside the section come from.
TRANSFER_FILES = {name: f"ipt/{{scale}}:{name}" for name in ("net", "peers", "pretrain", "measure", "repeats")}


@dataclass
class TransferConfig:
    """Command line and parameters of the stages that train on the targets."""

    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    net: Net = field(default_factory=Net)
    peers: Peers = field(default_factory=Peers)
    pretrain: Pretrain = field(default_factory=Pretrain)
    measure: Measurement = field(default_factory=Measurement)
    params: Finetune = field(default_factory=Finetune)
