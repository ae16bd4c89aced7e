"""The parameters of a run, as params/har_multistage/*.yaml gives them, with ranges. No torch here: wrong input is fast."""

import math
from dataclasses import dataclass, field

from stages.lib.checks import above, at_least, between
from stages.lib.stage import MISSING, StageError
from stages.lib.stage import field as parameter

ONE_DIMENSIONAL = ("raw", "spectrum")
TWO_DIMENSIONAL = ("stft", "gasf", "gadf", "rp", "mtf")
REGISTRY = (*ONE_DIMENSIONAL, *TWO_DIMENSIONAL)  # ties in the order of branches are broken by it


@dataclass
class Transforms:
    """Which transformations there are, and their settings."""

    names: list[str] = parameter(help=f"of {', '.join(REGISTRY)}")
    points: int = parameter(help="samples that a window is averaged to before it becomes an image; 32")
    dimension: int = parameter(help="embedding dimension of the recurrence plot; 1 or 3")
    delay: int = parameter(help="delay of that embedding in samples; 1")
    threshold: float | None = parameter(help="distance that a recurrence stays under; null: distances themselves")
    bins: int = parameter(help="quantile bins of the Markov field; 8")
    stft_window: int = parameter(help="samples of the Hann window; 32")
    stft_hop: int = parameter(help="samples between two of them; 4")

    def check(self) -> None:
        """StageError for a value out of range."""
        names = list(self.names)
        for name in names:
            if name not in REGISTRY:
                raise StageError(f"transforms.names: {name} is none of {', '.join(REGISTRY)}")
        if not names or len(set(names)) != len(names):
            raise StageError(f"transforms.names={names}: expected one or more different names")
        for name, least in (("points", 8), ("dimension", 1), ("delay", 1), ("bins", 2), ("stft_window", 8), ("stft_hop", 1)):
            at_least(f"transforms.{name}", getattr(self, name), least)
        if (self.dimension - 1) * self.delay >= self.points:
            raise StageError(f"transforms.dimension={self.dimension}: its delays exceed the {self.points} points")
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise StageError(f"transforms.threshold={self.threshold}: expected a number above 0, or null")


@dataclass
class Net:
    """Shape of an extractor; the same in one and in two dimensions but for the stem's kernel."""

    stem: int = parameter(help="channels after the first convolution; 32")
    widths: list[int] = parameter(help="channels after each unit; 32, 64, 128")
    kernels: list[int] = parameter(help="sizes of the depthwise convolutions of a unit; 3, 5, 7")
    stem_kernel_1d: int = parameter(help="size of the first convolution over samples; 7")
    stem_kernel_2d: int = parameter(help="the same over images; 3")
    feature: int = parameter(help="numbers that an extractor gives; 64")
    fusion: int = parameter(help="hidden units of the merged net's head; 64")
    dropout: float = parameter(help="in heads only; 0.3")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("stem", "stem_kernel_1d", "stem_kernel_2d", "feature", "fusion"):
            at_least(f"net.{name}", getattr(self, name), 1)
        if not list(self.widths) or min(self.widths) < 1:
            raise StageError(f"net.widths={list(self.widths)}: expected one or more widths of 1 or more")
        if not list(self.kernels) or any(size < 1 or size % 2 == 0 for size in self.kernels):
            raise StageError(f"net.kernels={list(self.kernels)}: expected one or more odd sizes")
        if self.stem_kernel_1d % 2 == 0 or self.stem_kernel_2d % 2 == 0:
            raise StageError("net.stem_kernel_1d, net.stem_kernel_2d: expected odd sizes")
        between("net.dropout", self.dropout, 0.0, 1.0)


@dataclass
class Schedule:
    """One stage of training by Adam; the epoch that is best on the validation windows is kept."""

    epochs: int = parameter(help="most passes over the training windows")
    lr: float = parameter(help="learning rate")
    patience: int = parameter(help="passes without improvement after which the rate is multiplied by `factor`")
    factor: float = parameter(help="what the rate is multiplied by on a plateau; 0.5")
    stop: int = parameter(help="passes without improvement after which training ends")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("schedule.epochs", self.epochs, 1)
        at_least("schedule.patience", self.patience, 1)
        at_least("schedule.stop", self.stop, 1)
        between("schedule.lr", self.lr, 0.0, math.inf)
        between("schedule.factor", self.factor, 0.0, 1.0)


@dataclass
class Stages:
    """The schedules of the stages. Passes from scratch are those of `single`, `head` and `tune` together."""

    single: Schedule = field(default_factory=Schedule)
    head: Schedule = field(default_factory=Schedule)
    tune: Schedule = field(default_factory=Schedule)
    newest: Schedule = field(default_factory=Schedule)
    last: Schedule = field(default_factory=Schedule)
    scratch_lr: float = parameter(help="learning rate of nets that are trained at once")

    def check(self) -> None:
        """StageError for a value out of range."""
        above("stages.scratch_lr", self.scratch_lr)


@dataclass
class Division:
    """How windows are divided for cross-validation. A repetition is one fold."""

    folds: int = parameter(help="parts of a cross-validation; 5")
    inner: int = parameter(help="of what is not for test, one part in so many is for validation")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("division.folds", self.folds, 2)
        at_least("division.inner", self.inner, 2)


@dataclass
class Params:
    """Everything about a data set's experiment."""

    channels: list[str] = field(default_factory=list)
    transforms: Transforms = field(default_factory=Transforms)
    net: Net = field(default_factory=Net)
    stages: Stages = field(default_factory=Stages)
    division: Division = field(default_factory=Division)
    batch: int = MISSING

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("batch", self.batch, 2)


@dataclass
class Config:
    """Command line and parameters of the stages that train."""

    scale: str = parameter(help="smoke, small, medium")
    dataset: str = parameter(help="a prepared set of sensor windows")
    seed: int = parameter(help="matrix seed; stands for `repeats` repetitions, each one fold")
    repeats: int = parameter(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Params = field(default_factory=Params)
