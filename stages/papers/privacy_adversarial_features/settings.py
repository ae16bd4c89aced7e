"""The parameters of a run, as params/privacy_adversarial_features/*.yaml gives them, with their ranges. No torch here."""

import math
from dataclasses import dataclass

from stages.lib.checks import above, at_least, between
from stages.lib.stage import StageError, field


@dataclass
class Mixture:
    """The generated set: a code of u whose amplitude the secret changes, a code of s, their product, noise."""

    train: int = field(help="samples to train on")
    evaluation: int = field(help="samples to measure on")
    features: int = field(help="D, dimensions of x")
    utilities: int = field(help="C_u, classes of u")
    secrets: int = field(help="C_s, classes of s")
    code: int = field(help="dimensions of a class's code, two or more")
    leak: float = field(help="how much the secret changes the amplitude of the code of u; 0.5 in the specification")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name, least in (("train", 2), ("evaluation", 2), ("features", 1), ("utilities", 2), ("secrets", 2), ("code", 2)):
            at_least(f"mixture.{name}", getattr(self, name), least)
        between("mixture.leak", self.leak, 0.0, math.inf)


@dataclass
class Recordings:
    """Features, secrets and division of sensor windows."""

    channels: list[str] = field(default_factory=list, help="channels that features are made of")
    bands: int = field(help="frequency bands of a channel, of equal width, whose log energies are features")
    highest: int = field(help="highest frequency of a band, in periods of a window")
    secrets: list[str] = field(default_factory=list, help="subject, or what is known of each subject, such as gender")
    share: float = field(help="share of the windows of a subject's activity, from the first on, to train on")

    def check(self) -> None:
        """StageError for no channel, no secret, a name twice or a share that leaves a side empty."""
        for name in ("channels", "secrets"):
            values = list(getattr(self, name))
            if not values or len(set(values)) != len(values):
                raise StageError(f"params.{name}={values}: expected one or more different names")
        at_least("bands", self.bands, 1)
        at_least("highest", self.highest, self.bands)
        above("share", self.share)
        between("share", self.share, 0.0, 1.0)


@dataclass
class Closed:
    """Maps by one eigenproblem."""

    ridges: list[float] = field(default_factory=list, help="rho beside the averaged scatter; held-out samples choose")
    numerator_ridge: float = field(help="rho_1 beside the utility scatter of RUCA; 0 makes RUCA at price 0 equal to DCA")


@dataclass
class Information:
    """Supervised objective: information about u minus price times information about s."""

    steps: int = field(help="steps of Adam")
    batch: int = field(help="samples a step; many more than Fourier features, or information saturates")
    lr: float = field(help="learning rate, falling by cosine")
    ridge: float = field(help="rho of the linear criterion")
    kernel_ridge: float = field(help="rho of the kernel criterion")
    fourier: int = field(help="M, random Fourier features, drawn again each step")
    width: float = field(help="width of the Gaussian kernel on standardised z")
    samples: int = field(help="samples of a step's kernel matrices for HSIC, at most batch")


@dataclass
class Adversarial:
    """Alternating training of map, utility predictor and adversaries."""

    steps: int = field(help="steps of the map")
    inner: int = field(help="steps of the predictors before each; 1 is gradient reversal with two batches")
    batch: int = field(help="samples a step")
    lr: float = field(help="learning rate of the map")
    predictor_lr: float = field(help="learning rate of the predictors")
    hidden: int = field(help="hidden units of predictors and adversaries")
    adversaries: int = field(help="adversaries whose mean loss counts")
    restart: int = field(help="one adversary in turn starts afresh every so many steps; 0 for never")


@dataclass
class Filter:
    """Minimax filter of 2016: logistic heads fully optimised, an adaptive step for the map."""

    steps: int = field(help="steps of the map, refused ones included")
    inner: int = field(help="iterations of the logistic heads, from where they are; 50 in the official code")
    decay: float = field(help="l2 of the heads; 1e-6 in the official code")
    step: float = field(help="first step, grows by half where the objective falls and halves where it does not")


@dataclass
class Compress:
    """All maps of one data set and repetition."""

    dims: int = field(help="d, dimensions that leave the device")
    hidden: int = field(help="hidden units of a map that is a net")
    prices: list[float] = field(default_factory=list, help="lambda, weights of privacy, from 0 in ascending order")
    price: float = field(help="the one of them at which arms are compared")
    closed: Closed = field(default_factory=Closed)
    information: Information = field(default_factory=Information)
    filter: Filter = field(default_factory=Filter)
    adversarial: Adversarial = field(default_factory=Adversarial)

    def check(self) -> None:
        """StageError for a value out of range."""
        prices = list(self.prices)
        if not prices or prices[0] != 0 or prices != sorted(set(prices)) or not prices[-1] < math.inf:
            raise StageError(f"params.prices={prices}: expected different finite numbers in ascending order, the first 0")
        if self.price not in prices or not self.price:
            raise StageError(f"params.price={self.price}: expected one of prices above 0, {prices}")
        at_least("dims", self.dims, 1)
        at_least("hidden", self.hidden, 1)
        _positive("closed.ridges", self.closed.ridges)
        _check_rates(self)
        if not 4 <= self.information.samples <= self.information.batch:
            raise StageError(f"params.information.samples={self.information.samples}: expected 4 to batch")
        if self.information.batch <= self.information.fourier:
            raise StageError(
                f"params.information.batch={self.information.batch}: expected more than the {self.information.fourier} "
                "Fourier features, or any labels look predictable"
            )


def _check_rates(params: Compress) -> None:
    """StageError for counts below 1 and rates or ridges that are not positive."""
    counts = {"information": ("steps", "fourier"), "filter": ("steps", "inner"),
              "adversarial": ("steps", "inner", "batch", "hidden", "adversaries")}  # fmt: skip
    rates = {"information": ("lr", "ridge", "kernel_ridge", "width"), "filter": ("decay", "step"),
             "adversarial": ("lr", "predictor_lr")}  # fmt: skip
    for part, names in counts.items():
        for name in names:
            at_least(f"{part}.{name}", getattr(getattr(params, part), name), 1)
    for part, names in rates.items():
        for name in names:
            above(f"{part}.{name}", getattr(getattr(params, part), name))
    at_least("adversarial.restart", params.adversarial.restart, 0)
    between("closed.numerator_ridge", params.closed.numerator_ridge, 0.0, math.inf)


@dataclass
class Attack:
    """Classifiers fitted afresh to what is sent; the best of them counts."""

    steps: int = field(help="iterations of logistic regression")
    decay: float = field(help="l2 of logistic regression, beside the mean loss")
    widths: list[float] = field(default_factory=list, help="Gaussian kernel widths, as multiples of sqrt(d/2)")
    ridges: list[float] = field(default_factory=list, help="ridges of the kernel machine")
    neighbours: int = field(help="k of the nearest neighbours")
    hidden: int = field(help="hidden units of the net")
    epochs: int = field(help="passes of the net")
    batch: int = field(help="samples of a step of the net")
    lr: float = field(help="learning rate of the net, falling by cosine")
    weight_decay: float = field(help="weight decay of the net")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("steps", "neighbours", "hidden", "epochs", "batch"):
            at_least(name, getattr(self, name), 1)
        for name in ("decay", "lr"):
            above(name, getattr(self, name))
        between("weight_decay", self.weight_decay, 0.0, math.inf)
        for name in ("widths", "ridges"):
            _positive(name, getattr(self, name))


def _positive(name: str, values: list[float]) -> None:
    """StageError for an empty list or a number that is not above 0."""
    if not values or not all(0 < value < math.inf for value in values):
        raise StageError(f"params.{name}={list(values)}: expected one or more numbers above 0")
