"""Settings of the paper's stages, with the ranges of their values."""

import math
from dataclasses import dataclass

from stages.lib.checks import above, at_least, between, one_of, share
from stages.lib.errors import StageError
from stages.lib.stage import MISSING, field
from stages.papers.covsegnet.arms import find

KINDS = ("covsegnet", "unet")
MODES = ("both", "product", "raised")  # [V, P]; V P; V (1 + P) / 2


@dataclass
class Net:
    """A net of slices or volumes."""

    kind: str = field(help="covsegnet or unet")
    channels: list[int] = field(help="channels of every level, finest first")
    stages: int = field(help="encoder-decoder modules in series; 1 for a unet")
    norm: str = field(help="batch, or group for small batches of volumes")

    def check(self) -> None:
        """StageError for a value out of range."""
        one_of("net.kind", self.kind, KINDS)
        one_of("net.norm", self.norm, ("batch", "group"))
        at_least("net.stages", self.stages, 1)
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise StageError(f"params.net.channels={self.channels}: expected two or more positive numbers")
        if self.kind == "unet" and self.stages != 1:
            raise StageError(f"params.net.stages={self.stages}: a unet has one")
        if self.norm == "group" and any(one % 4 for one in self.channels):
            raise StageError(f"params.net.channels={self.channels}: expected multiples of 4 for groups")


@dataclass
class Fit:
    """How a net is trained."""

    steps: int = field(help="updates")
    lesion: int = field(help="examples of a batch with a lesion: slices, or sub-volumes centred on a lesion's voxel")
    other: int = field(help="further examples: slices without a lesion, or sub-volumes anywhere")
    lr: float = field(help="peak of the one-cycle learning rate")
    weight_decay: float = field(help="decoupled weight decay")
    rotation: float = field(help="largest rotation in the plane, degrees")
    zoom: float = field(help="largest relative change of size in the plane")
    jitter: float = field(help="largest change of contrast and, halved, of brightness")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("fit.steps", self.steps, 1)
        at_least("fit.lesion", self.lesion, 1)
        at_least("fit.other", self.other, 0)
        above("fit.lr", self.lr)
        between("fit.weight_decay", self.weight_decay, 0.0, math.inf)
        between("fit.rotation", self.rotation, 0.0, 180.0)
        between("fit.zoom", self.zoom, 0.0, 1.0)
        between("fit.jitter", self.jitter, 0.0, 1.0)


@dataclass
class Loss:
    """Binary cross-entropy plus the focal Tversky loss (1 - TI)^exponent."""

    misses: float = field(help="weight of missed lesion voxels in the Tversky index")
    alarms: float = field(help="weight of falsely found ones")
    exponent: float = field(help="focus: below 1, hard examples count more")

    def check(self) -> None:
        """StageError for a value out of range."""
        above("loss.misses", self.misses)
        above("loss.alarms", self.alarms)
        above("loss.exponent", self.exponent)


@dataclass
class Slices:
    """Phase 1, and the 2-D rivals."""

    fit: Fit = field(default_factory=Fit)
    folds: int = field(help="inner folds: each gives the probability of training scans that it never saw")
    phase1: Net = field(default_factory=Net, help="phase 1")
    series: Net = field(default_factory=Net, help="more modules in series, compared in 2-D only")
    unet_params: Net = field(default_factory=Net, help="U-Net with the parameters of `series`")
    unet_macs: Net = field(default_factory=Net, help="U-Net with the multiply-adds of `series`")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("slices.folds", self.folds, 2)


@dataclass
class Volumes:
    """Phase 2, and the nets of volumes that do without phase 1."""

    fit: Fit = field(default_factory=Fit)
    net: Net = field(default_factory=Net)
    roi_mode: str = field(help="what phase 2 sees of volume V and probability P: both, product (V P), raised (V (1 + P) / 2)")
    flat: bool = field(help="never pool the depth")
    patch: list[int] = field(help="slices, rows and columns of a sub-volume in training")
    window: list[int] = field(help="the same of the sliding window")
    overlap: float = field(help="share of a window that the next one covers again")
    long_steps: int = field(help="updates of the net on volumes alone that takes the time of both phases")

    def check(self) -> None:
        """StageError for a value out of range."""
        one_of("volumes.roi_mode", self.roi_mode, MODES)
        between("volumes.overlap", self.overlap, 0.0, 1.0)
        at_least("volumes.long_steps", self.long_steps, 1)
        for key, size in (("patch", self.patch), ("window", self.window)):
            if len(size) != 3 or min(size) < 2:
                raise StageError(f"params.volumes.{key}={size}: expected three numbers of 2 or more")


@dataclass
class Settings:
    """The section of a data set in the params file."""

    arms: list[str] = field(help="what is compared")
    scans: int = field(help="training scans of a repetition; fewer where there are fewer")
    loss: Loss = field(default_factory=Loss)
    slices: Slices = field(default_factory=Slices)
    volumes: Volumes = field(default_factory=Volumes)
    z_sigma: float = field(help="deviation of the Gaussian filter along z, slices")
    threshold: float = field(help="probability from which a voxel is a lesion")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in self.arms:
            find(name)
        if not {"two_phase", "phase1"} <= set(self.arms):
            raise StageError(f"params.arms={self.arms}: expected two_phase and phase1 among them")
        at_least("scans", self.scans, 2)
        above("z_sigma", self.z_sigma)
        share("threshold", self.threshold)


@dataclass
class Classify:
    """The section covid_ct: nets that tell the class of a slice."""

    channels: list[int] = field(help="channels of the encoder's levels")
    plain: list[int] = field(help="the same of plain convolutions; twice as many have the encoder's parameters")
    epochs: int = field(help="passes over the training slices")
    batch: int = field(help="slices a step")
    lr: float = field(help="peak of the one-cycle learning rate")
    weight_decay: float = field(help="decoupled weight decay")
    shift: int = field(help="largest shift of a slice in training, pixels")
    pixels: int = field(help="rows and columns of the thumbnail that the logistic regression sees")
    ridge: float = field(help="inverse strength of its L2 penalty")

    def check(self) -> None:
        """StageError for a value out of range."""
        for key, channels in (("channels", self.channels), ("plain", self.plain)):
            if len(channels) < 2 or min(channels) < 1:
                raise StageError(f"params.{key}={channels}: expected two or more positive numbers")
        at_least("epochs", self.epochs, 1)
        at_least("batch", self.batch, 2)
        above("lr", self.lr)
        between("weight_decay", self.weight_decay, 0.0, math.inf)
        at_least("shift", self.shift, 0)
        at_least("pixels", self.pixels, 1)
        above("ridge", self.ridge)


@dataclass
class Common:
    """What the stage scripts have in common on their command line."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a section of the params file: ct_lesion; covid_ct for classify.py")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
