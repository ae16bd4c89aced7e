"""The parameters of a federation, as params/fedpu/*.yaml gives them, with their ranges. No torch here: wrong input is fast."""

from dataclasses import dataclass

from stages.lib.checks import above, at_least, between, one_of, share
from stages.lib.stage import StageError, field

NETS = ("mlp", "cnn", "resnet9")
PROXIMAL = ("squared", "norm")
PARTITIONS = ("shards", "fedmatch")
UNLABELLED = ("iid", "bimodal")


@dataclass
class Net:
    """The net that the server averages."""

    kind: str = field(help="mlp: one hidden layer; cnn: the official code's for MNIST; resnet9: with batch normalisation")
    width: int = field(help="hidden units of mlp, fully connected ones of cnn (50 in the official code), stem of resnet9 (64)")
    dropout: float = field(help="dropout of cnn, of its features and of its hidden units")

    def check(self) -> None:
        """StageError for an unknown kind or a value out of range."""
        one_of("net.kind", self.kind, NETS)
        at_least("net.width", self.width, 1)
        between("net.dropout", self.dropout, 0.0, 1.0)


@dataclass
class Risk:
    """What the objectives on positive and unlabelled images share."""

    weight: float = field(help="w: weight of the PU risk beside the cross-entropy; 1 in the official code")
    eps: float = field(help="added inside -log(1 - p + eps), which bounds it by -log(eps); 0.01")
    eps_shipped: float = field(help="the same where the shipped code has its own, 1e-6")
    nonnegative: bool = field(help="clamp each class's negative risk at 0 (nnPU) in all arms; not in the official code")
    threshold: float = field(help="least confidence of a pseudo-label; 0.95")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("risk.weight", self.weight, 0)
        for name in ("eps", "eps_shipped"):
            if not 0 < getattr(self, name) < 1:
                raise StageError(f"params.risk.{name}={getattr(self, name)}: expected a number between 0 and 1")
        share("risk.threshold", self.threshold)


@dataclass
class Prox:
    """FedProx, for the arms that have it."""

    mu: float = field(help="weight of the proximal term")
    form: str = field(help="squared: mu/2 |w - w_t|^2; norm: mu/2 |w - w_t|, not squared, as in the official code")
    partial: float = field(help="share of the clients of a round that run 1 to E - 1 epochs instead of E; 0.5")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("prox.mu", self.mu, 0)
        one_of("prox.form", self.form, PROXIMAL)
        share("prox.partial", self.partial)


@dataclass
class Scene:
    """How the images are divided among the clients and labelled, and the arms that are trained on it."""

    partition: str = field(default="shards", help="shards: by class; fedmatch: the official code's split of CIFAR-10")
    classes_per_client: int = field(default=10, help="shards: classes that a client has images of; all of them is iid")
    positives: list[int] = field(default_factory=list, help="shards: number of positive classes by client, taken in turn")
    label_rate: float = field(default=0.33, help="shards: labelled share of a positive class's images, rounded down")
    least: int = field(default=1, help="shards: a class with fewer local images cannot be positive; 41 in the official code")
    labels: int = field(default=5, help="fedmatch: labelled images of every class and client")
    unlabelled: int = field(default=510, help="fedmatch: unlabelled images of a client")
    mixture: str = field(default="iid", help="fedmatch: iid or bimodal shares of the classes among the unlabelled")
    priors: list[float] | None = field(default=None, help="class priors of all clients; null: each client's own shares")
    arms: list[str] = field(default_factory=list, help="arms that are trained; empty for all")

    def check(self) -> None:
        """StageError for a value out of range, or priors that are none."""
        for name, value, known in (("partition", self.partition, PARTITIONS), ("mixture", self.mixture, UNLABELLED)):
            if value not in known:
                raise StageError(f"params.scenes: {name}={value}: expected one of {', '.join(known)}")
        if self.partition == "shards" and (not self.positives or min(self.positives) < 1):
            raise StageError(f"params.scenes: positives={list(self.positives)}: a client needs 1 or more, or it cannot learn")
        for name in ("classes_per_client", "least", "labels", "unlabelled"):
            at_least(f"scenes: {name}", getattr(self, name), 1)
        share("scenes: label_rate", self.label_rate)
        if self.priors is not None and (min(self.priors) < 0 or abs(sum(self.priors) - 1) > 1e-6):
            total = sum(self.priors)
            raise StageError(f"params.scenes: priors={list(self.priors)}: sum to {total:.6g}; expected shares that sum to 1")


@dataclass
class Federation:
    """One federation and its scenes."""

    net: Net = field(default_factory=Net)
    risk: Risk = field(default_factory=Risk)
    prox: Prox = field(default_factory=Prox)
    images: int | None = field(help="training images that the clients share, classes in proportion; null for all")
    pool: list[int] | None = field(help="fedmatch: sizes of train, val and test after all splits are joined; null: as they are")
    clients: int = field(help="K; at least 10 in a run that is reported")
    participation: float = field(help="share of the clients that take part in a round, at least one of them")
    rounds: int = field(help="rounds")
    early: int = field(help="round whose accuracy is reported beside the last one's")
    epochs: int = field(help="E: local epochs of a round")
    batch: int = field(help="images of a local step, labelled and unlabelled ones mixed")
    momentum: float = field(help="momentum of SGD; it persists between the rounds of a client")
    decay: float = field(help="factor on a client's learning rate after each round in which it takes part; 0.992")
    lr: dict[str, float] = field(default_factory=dict, help="learning rate by arm")
    scenes: dict[str, Scene] = field(default_factory=dict, help="scenes by name")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("clients", "rounds", "epochs", "batch", "early"):
            at_least(name, getattr(self, name), 1)
        if not 0 < self.participation <= 1:
            raise StageError(f"params.participation={self.participation}: expected a share above 0")
        if self.early > self.rounds:
            raise StageError(f"params.early={self.early}: expected at most rounds={self.rounds}")
        if not 0 <= self.momentum < 1 or not 0 < self.decay <= 1:
            raise StageError(f"params.momentum={self.momentum} decay={self.decay}: expected [0, 1) and (0, 1]")
        if self.prox.partial and self.epochs < 2:
            raise StageError(f"params.prox.partial={self.prox.partial}: needs epochs=2 or more, there is {self.epochs}")
        if not self.scenes:
            raise StageError("params.scenes: expected one scene or more")
        for scene in self.scenes.values():  # mappings are not visited by the frame
            scene.check()
        for arm, rate in self.lr.items():
            above(f"lr.{arm}", rate)


__all__ = ["Federation", "Net", "Prox", "Risk", "Scene"]
