"""The parameters of a run, as params/milan/*.yaml gives them, with their ranges. No torch here: wrong input is fast."""

import math
from dataclasses import dataclass

from stages.lib.checks import above, at_least, between
from stages.lib.stage import MISSING, StageError, field
from stages.lib.vit.settings import Recipe
from stages.papers.milan.arms import find

ROLES = ("teacher", "student", "labels")


@dataclass
class Scenes:
    """How scenes are composed, and which original digits they are made of."""

    canvas: int = field(help="side of a scene in pixels")
    digit: int = field(help="side of the digit in it")
    grid: int = field(help="places of the digit are multiples of so many pixels")
    cell: int = field(help="side of a cell of the background's noise")
    noise: float = field(help="standard deviation of the background, of grey in [0, 1]")
    contrast: float = field(help="how much a stroke is brighter than the background")
    floor: float = field(help="grey of the prepared digits below which it counts as paper; they come with noise")
    scale: float = field(help="pixels are divided by it, so that their deviation is about 1")
    originals: dict[str, int] = field(default_factory=dict, help="handwritten digits of each role: teacher, student, labels")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("canvas", "digit", "grid", "cell"):
            at_least(f"images.{name}", getattr(self, name), 1)
        if self.digit > self.canvas:
            raise StageError(f"params.images.digit={self.digit}: expected at most canvas={self.canvas}")
        for name in ("noise", "contrast"):
            between(f"images.{name}", getattr(self, name), 0.0, math.inf)
        between("images.floor", self.floor, 0.0, 1.0)
        above("images.scale", self.scale)
        if set(self.originals) != set(ROLES):
            raise StageError(f"params.images.originals: expected {', '.join(ROLES)}, got {', '.join(self.originals)}")


@dataclass
class Net:
    """Shape of a transformer over patches."""

    patch: int = field(help="side of a patch in pixels")
    width: int = field(help="width of its tokens")
    depth: int = field(help="number of blocks")
    heads: int = field(help="heads of a block")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("patch", "width", "depth", "heads"):
            at_least(f"net.{name}", getattr(self, name), 1)
        if self.width % self.heads:
            raise StageError(f"params.net.heads={self.heads}: expected a divisor of width={self.width}")


@dataclass
class Descent:
    """AdamW with linear warm-up from 0 and a cosine to 0; matrices decay, vectors do not."""

    epochs: int = field(help="passes over the images")
    warmup: float = field(help="passes of linear warm-up")
    batch: int = field(help="images a step")
    lr: float = field(help="learning rate after warm-up")
    weight_decay: float = field(help="decoupled weight decay")
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999], help="decay of both moments")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("descent.epochs", self.epochs, 1)
        at_least("descent.batch", self.batch, 1)
        between("descent.lr", self.lr, 0.0, math.inf)
        between("descent.weight_decay", self.weight_decay, 0.0, math.inf)
        between("descent.warmup", self.warmup, 0.0, self.epochs)
        if len(self.betas) != 2 or not all(0.0 <= value < 1.0 for value in self.betas):
            raise StageError(f"params.descent.betas={list(self.betas)}: expected two numbers in [0, 1)")


@dataclass
class Views:
    """The image-only teacher: contrastive training on two views of each scene (as SimCLR), no captions."""

    shift: int = field(help="pixels that a view is moved at most")
    noise: float = field(help="deviation of the noise, in cells as the background's, that is added to a view; of grey")
    descent: Descent = field(default_factory=Descent)

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("views.shift", self.shift, 0)
        between("views.noise", self.noise, 0.0, math.inf)


@dataclass
class Teacher:
    """The frozen teacher: trained on captioned scenes here, or a CLIP image tower read from disk."""

    net: Net = field(default_factory=Net)
    joint: int = field(help="width of the space that images and captions share, and of the student's targets")
    temperature: float = field(help="initial temperature of the contrastive loss; .07")
    scale_limit: float = field(help="largest inverse temperature; 100")
    pairs: int = field(help="captioned scenes")
    descent: Descent = field(default_factory=Descent)
    views: Views = field(default_factory=Views)
    weights: str = field(help="folder with a converted CLIP image tower (convert.py), empty to train a teacher here")
    source_sha256: str = field(
        help="SHA-256 of the publisher's file that the tower must have been converted from; empty for any"
    )

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("teacher.joint", self.joint, 1)
        at_least("teacher.pairs", self.pairs, 1)
        for name in ("temperature", "scale_limit"):
            above(f"teacher.{name}", getattr(self, name))


@dataclass
class Decoder:
    """What reconstructs; dropped after pre-training."""

    width: int = field(help="width of its tokens")
    depth: int = field(help="number of blocks")
    heads: int = field(help="heads of a block")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("width", "depth", "heads"):
            at_least(f"decoder.{name}", getattr(self, name), 1)
        if self.width % self.heads:
            raise StageError(f"params.decoder.heads={self.heads}: expected a divisor of width={self.width}")


@dataclass
class Student:
    """The net that is pre-trained, and how."""

    net: Net = field(default_factory=Net)
    decoder: Decoder = field(default_factory=Decoder)
    mask_ratio: float = field(help="share of the patches that are hidden; .75")
    average_targets: int = field(help="last blocks of the teacher whose outputs are averaged to a target; 1")
    arms: list[str] = field(default_factory=list, help="arms that are pre-trained")
    scenes: int = field(help="scenes without labels")
    descent: Descent = field(default_factory=Descent)
    pixel_lr: float = field(help="learning rate of the arms that reconstruct pixels, tuned on its own")
    pixel_normalise: bool = field(help="normalise the pixels of a patch by their own mean and deviation, as MAE's best setting")

    def check(self) -> None:
        """StageError for a value out of range."""
        between("student.mask_ratio", self.mask_ratio, 0.0, 1.0)
        at_least("student.average_targets", self.average_targets, 1)
        at_least("student.scenes", self.scenes, 1)
        for name in self.arms:
            find(name)
        between("student.pixel_lr", self.pixel_lr, 0.0, math.inf)


@dataclass
class Transfer:
    """What is learned from few labels on top of the pre-trained encoder."""

    labels: int = field(help="labelled scenes")
    tested: int = field(help="scenes of the evaluation split")
    probe_c: float = field(help="inverse strength of the linear probes' L2 penalty")
    recipe: Recipe = field(default_factory=Recipe, help="fine-tuning")
    layer_decay: float = field(help="factor of the learning rate from a block to the one below; .65 for ViT-B")
    drop_path: float = field(help="largest rate of stochastic depth, reached by the last block")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("transfer.labels", self.labels, 1)
        at_least("transfer.tested", self.tested, 1)
        above("transfer.probe_c", self.probe_c)
        if not 0.0 < self.layer_decay <= 1.0:
            raise StageError(f"params.transfer.layer_decay={self.layer_decay}: expected a number in (0, 1]")
        between("transfer.drop_path", self.drop_path, 0.0, 1.0)
        self.recipe.check("params.transfer.recipe")


@dataclass
class Common:
    """What the three stage scripts have in common on their command line."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a section of the params file: scenes")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    images: Scenes = field(default_factory=Scenes)
