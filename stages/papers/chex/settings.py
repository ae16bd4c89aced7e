"""The parameters of a run, as params/chex/*.yaml gives them, with their ranges. No torch here: wrong input answers fast."""

from dataclasses import dataclass
from typing import Any

from stages.lib.checks import at_least, between, one_of
from stages.lib.stage import StageError, field


@dataclass
class Net:
    """A net of `stages.lib.models`."""

    name: str = field(help="family of nets, as in stages.lib.models.CONSTRUCTORS")
    options: dict[str, Any] = field(
        default_factory=dict, help="its blocks, widths, stem, in_channels, image; the classes come from the data"
    )
    gamma: float = field(help="initial scale of every BN; 0.5 in the official prunable ResNets")


@dataclass
class Sgd:
    """The optimiser and what it sees; every arm has the same passes."""

    epochs: int = field(help="passes over the training split, the same for every arm")
    lr: float = field(help="learning rate after warm-up; it falls by cosine")
    milestones: list[float] = field(
        default_factory=list, help="shares of the run at which the rate falls to a tenth; empty: cosine instead"
    )
    warmup: float = field(help="passes of linear warm-up")
    rate_per: str = field(help="epoch: the rate changes once a pass (official code); step: at every step")
    momentum: float = field(help="momentum of SGD")
    nesterov: bool = field(help="Nesterov's form of the momentum")
    weight_decay: float = field(help="L2 penalty")
    decay_norms: bool = field(help="whether the penalty also holds for BN's scale and shift")
    batch: int = field(help="images a step")
    smoothing: float = field(help="label smoothing, in [0, 1)")
    mixup: float = field(help="alpha of mixup's Beta distribution, 0 for none")
    pad: int = field(help="augmentation: pixels of padding before a random crop, 0 for none")
    flip: bool = field(help="augmentation: mirror half of the images")
    limit: int = field(help="training images used, stratified; 0 for all")

    def check(self) -> None:
        """StageError for a value out of range."""
        one_of("sgd.rate_per", self.rate_per, ("epoch", "step"))
        for key in ("lr", "warmup", "momentum", "weight_decay", "mixup"):
            between(f"sgd.{key}", getattr(self, key), 0.0, float("inf"))
        between("sgd.smoothing", self.smoothing, 0.0, 1.0)
        at_least("sgd.epochs", self.epochs, 1)
        at_least("sgd.batch", self.batch, 1)
        if self.warmup >= self.epochs:
            raise StageError(f"params.sgd.warmup={self.warmup}: expected fewer passes than sgd.epochs={self.epochs}")


@dataclass
class Exploration:
    """When and how much is pruned and regrown. Time t runs in ticks, `ticks` to a pass over the data."""

    sparsity: float = field(help="S, share of all prunable channels to remove, in (0, 1)")
    delta: float = field(help="delta_0, regrown share at the start, from 0 to S")
    ticks: int = field(help="ticks of the clock a pass; 1 in the paper, where time is counted in epochs")
    interval: int = field(help="Delta T, ticks between two exploration steps")
    last: int = field(help="T_max, tick of the last one, a multiple of the interval")
    regrow_rule: str = field(help="global_bn: to the width at S - delta_t (official code); per_layer: ceil(delta_t C) (paper)")
    mask_momentum: bool = field(help="zero the velocities of masked weights; the official code leaves them")
    prune_downsample: bool = field(help="also mask outputs of shortcut convolutions, as the official ResNet-50 list does")
    macs: float = field(
        help="share of the dense net's MACs to which each pruning is brought by moving its threshold; 0: S alone decides"
    )

    def check(self) -> None:
        """StageError for a value out of range."""
        where = "exploration."
        if not 0.0 < self.sparsity < 1.0:
            raise StageError(f"params.{where}sparsity={self.sparsity}: expected S in (0, 1)")
        if not 0.0 <= self.delta <= self.sparsity:
            raise StageError(f"params.{where}delta={self.delta}: expected delta_0 from 0 to S={self.sparsity}")
        between(f"{where}macs", self.macs, 0.0, 1.0)
        one_of(f"{where}regrow_rule", self.regrow_rule, ("global_bn", "per_layer"))
        for key in ("ticks", "interval", "last"):
            at_least(where + key, getattr(self, key), 1)
        if self.last % self.interval:
            raise StageError(
                f"params.{where}last={self.last}: expected a multiple of interval={self.interval}, "
                "or the last step still regrows"
            )


@dataclass
class TwoStep:
    """The baseline that prunes a trained net once and fine-tunes it within the same passes."""

    epochs: int = field(help="passes before pruning; the rest of sgd.epochs follows after it")
    lr: float = field(help="learning rate of the fine-tuning at its start")
    rule: str = field(help="chex: widths by BN scales, filters by leverage; uniform_l1: equal shares, filters by L1 norm")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("two_step.epochs", self.epochs, 1)
        between("two_step.lr", self.lr, 0.0, float("inf"))
        one_of("two_step.rule", self.rule, ("chex", "uniform_l1"))


@dataclass
class Params:
    """A data set's section of a params file."""

    net: Net = field(default_factory=Net)
    sgd: Sgd = field(default_factory=Sgd)
    exploration: Exploration = field(default_factory=Exploration)
    two_step: TwoStep = field(default_factory=TwoStep)

    def check(self) -> None:
        """StageError where sections do not fit one another."""
        fits(self.exploration, self.sgd)
        if self.two_step.epochs >= self.sgd.epochs:
            raise StageError(f"params.two_step.epochs={self.two_step.epochs}: expected fewer than sgd.epochs={self.sgd.epochs}")


def fits(exploration: Exploration, sgd: Sgd) -> None:
    """StageError unless the last exploration step comes before the end of the run."""
    ticks = sgd.epochs * exploration.ticks
    if exploration.last >= ticks:
        raise StageError(
            f"params.exploration.last={exploration.last}: expected T_max before the end of the run, {ticks} ticks "
            f"({sgd.epochs} passes)"
        )
