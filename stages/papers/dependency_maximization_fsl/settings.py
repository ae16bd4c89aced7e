"""The parameters of a run, as params/dependency_maximization_fsl/*.yaml gives them, with their ranges. No torch here."""

from dataclasses import dataclass

from stages.lib.checks import above, at_least, between, one_of, share
from stages.lib.stage import StageError, field

NETS = ("conv", "wide_residual")
OPTIMISERS = ("adam", "sgd")
LOSSES = ("ce", "mi", "dm", "hybrid")
FEATURE_NORMS = ("none", "l2", "zscore")
NORMALISE = ("none", "n2")
STOPS = ("grow", "stable_labels", "either")
SELECTIONS = ("ida", "random", "confidence")
UNLABELLED = ("query", "pool")
FINALS = ("query", "none")


@dataclass
class Net:
    """The backbone: three or more plain convolutions, or a wide residual net."""

    kind: str = field(help="conv or wide_residual")
    widths: list[int] = field(help="channels of each block (conv) or stage (wide_residual, the stem's first)")
    side: int = field(help="side in pixels of what the net sees: of a random crop in training, of the centre in tasks")
    blocks: int = field(default=1, help="residual blocks a stage")
    pool: int = field(default=1, help="conv: side of the last adaptive pooling; features are pool^2 x the last width")

    def check(self) -> None:
        """StageError for a value out of range."""
        one_of("net.kind", self.kind, NETS)
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise StageError(f"net.widths={list(self.widths)}: expected two or more numbers, each 1 or more")
        for name in ("side", "blocks", "pool"):
            at_least(f"net.{name}", getattr(self, name), 1)


@dataclass
class Recipe:
    """Pre-training on the base classes."""

    optimiser: str = field(help="adam (constant rate) or sgd (momentum 0.9, cosine)")
    epochs: int = field(help="passes over the base classes")
    batch: int = field(help="images a step")
    lr: float = field(help="learning rate, the first one of sgd")
    weight_decay: float = field(help="weight decay")
    smoothing: float = field(help="label smoothing")
    crop: float = field(default=1.0, help="least share of the area of a random resized crop; 1 for none")
    flip: bool = field(default=False, help="mirror half of the images")
    jitter: float = field(default=0.0, help="brightness, contrast and saturation change by up to this share")

    def check(self) -> None:
        """StageError for a value out of range."""
        one_of("recipe.optimiser", self.optimiser, OPTIMISERS)
        at_least("recipe.epochs", self.epochs, 1)
        at_least("recipe.batch", self.batch, 2)
        above("recipe.lr", self.lr)
        at_least("recipe.weight_decay", self.weight_decay, 0)
        for name in ("smoothing", "jitter"):
            between(f"recipe.{name}", getattr(self, name), 0.0, 1.0)
        above("recipe.crop", self.crop)
        share("recipe.crop", self.crop)


@dataclass
class Training:
    """A backbone and how it is trained."""

    net: Net = field(default_factory=Net)
    recipe: Recipe = field(default_factory=Recipe)


@dataclass
class Fit:
    """One fit of a task's classifier, section 3.2 to 3.4 of the method."""

    lr: float = field(help="Adam's learning rate")
    steps: int = field(help="full-batch steps")
    dm: float = field(help="weight of the dependence, lambda_DM")
    mi: float = field(help="weight of the mutual information, lambda_MI")
    conditional: float = field(help="weight of the conditional entropy inside it; 0.1 in the official code")
    sigma_x: float = field(help="width of the Gaussian kernel on features; 0 for the median of the task's distances")
    sigma_y: float = field(help="width of the Gaussian kernel on predictions")
    normalise: str = field(default="none", help="none: plain trace, as official; n2: divided by (n - 1)^2")
    smoothing: float = field(default=0.0, help="label smoothing")
    feature_norm: str = field(default="none", help="none, l2, or zscore over a task's unlabelled points")

    def check(self) -> None:
        """StageError for a value out of range."""
        above("fit.lr", self.lr)
        above("fit.sigma_y", self.sigma_y)
        at_least("fit.steps", self.steps, 0)
        for name in ("dm", "mi", "conditional", "sigma_x"):
            at_least(f"fit.{name}", getattr(self, name), 0)
        one_of("fit.normalise", self.normalise, NORMALISE)
        one_of("fit.feature_norm", self.feature_norm, FEATURE_NORMS)
        between("fit.smoothing", self.smoothing, 0.0, 1.0)


@dataclass
class Rounds:
    """Self-training, section 3.5 and 3.6 of the method."""

    rounds: int = field(help="at most so many rounds of selection")
    increment: int = field(help="a class's quota grows by so many points a round; 5 in the official code")
    components: int = field(help="principal components that points are scored in")
    rho: float = field(help="ridge of the discriminant information")
    stop: str = field(default="grow", help="grow: when no point was added; stable_labels: when pseudo-labels stay; either")
    kernel_limit: int = field(default=0, help="selection fits on more unlabelled points use mi instead; 75 officially, 0 never")
    final_unlabelled: str = field(default="query", help="the last fit sees the query images without labels, or none")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("rounds", "increment", "components"):
            at_least(f"rounds.{name}", getattr(self, name), 1)
        above("rounds.rho", self.rho)
        at_least("rounds.kernel_limit", self.kernel_limit, 0)
        one_of("rounds.stop", self.stop, STOPS)
        one_of("rounds.final_unlabelled", self.final_unlabelled, FINALS)


@dataclass
class Setting:
    """One kind of task, and the arms compared on it."""

    shots: int = field(help="labelled images a class, K")
    temperature: float = field(help="T of the initial classifier; 64 and 32 for 1 and 5 shots on raw features")
    arms: list[str] = field(help="arms, of arms.ARMS")
    queries: int = field(default=15, help="query images a class")
    unlabelled: str = field(default="query", help="query: transductive; pool: semi-supervised")
    pool: int = field(default=0, help="unlabelled images a class of the semi-supervised setting, k_ub")
    dirichlet: float = field(default=0.0, help="concentration of the query images' class shares; 0 for equal shares")

    def check(self) -> None:
        """StageError for a value out of range."""
        above("temperature", self.temperature)
        one_of("unlabelled", self.unlabelled, UNLABELLED)
        if (self.pool > 0) != (self.unlabelled == "pool"):
            raise StageError(f"pool={self.pool}: expected images of a pool where unlabelled=pool, and only there")
        if not self.arms or len(set(self.arms)) != len(self.arms):
            raise StageError(f"arms={list(self.arms)}: expected one or more different names")


@dataclass
class Tasks:
    """The tasks of a repetition."""

    ways: int = field(help="classes a task, N")
    tasks: int = field(help="tasks of every setting")
    at_once: int = field(help="tasks fitted side by side")
    fit: Fit = field(default_factory=Fit)
    rounds: Rounds = field(default_factory=Rounds)
    settings: dict[str, Setting] = field(default_factory=dict, help="kinds of tasks by name")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("ways", self.ways, 2)
        at_least("tasks", self.tasks, 2)
        at_least("at_once", self.at_once, 1)
        if not self.settings:
            raise StageError("settings: none; expected one kind of task or more")
        for name, setting in self.settings.items():
            if not name.isidentifier():
                raise StageError(f"settings: {name!r}: expected a name of letters, digits and _")
            setting.check()
