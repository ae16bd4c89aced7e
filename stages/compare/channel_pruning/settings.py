"""What all methods of the comparison have in common."""

from dataclasses import dataclass
from typing import Any

from stages.lib.stage import StageError, field


@dataclass
class Net:
    name: str = field(help="family of nets, as in stages.papers.manidp.nets.CONSTRUCTORS")
    options: dict[str, Any] = field(default_factory=dict, help="its blocks, widths, stem, in_channels, image")


@dataclass
class Common:
    net: Net = field(default_factory=Net)
    limit: int = field(help="training images used, stratified; 0 for all")
    epochs: int = field(help="passes of the dense net; what trains from scratch gets these and the extra ones")
    lr: float = field(help="its learning rate at the start; it falls by cosine")
    extra: int = field(help="passes after pruning, or with gates")
    extra_lr: float = field(help="learning rate of the extra passes at the start; it falls by cosine")
    batch: int = field(help="images a step")
    weight_decay: float = field(help="L2 penalty")
    images: int = field(help="images from which DCP selects, stratified")
    pivots: list[int] = field(default_factory=list, help="blocks behind which DCP's further heads stand")
    warmup: int = field(help="gated passes of ManiDP before thresholds")
    hold: int = field(help="last gated passes of ManiDP at the final thresholds")
    budgets: dict[str, float] = field(default_factory=dict, help="shares of the dense net's MACs by the names of the matrix")

    def check(self) -> None:
        """Raises StageError for a budget outside (0, 1) and for passes that leave nothing to do."""
        for name, share in self.budgets.items():
            if not 0 < share < 1:
                raise StageError(f"params.budgets.{name}={share}: expected a share of the MACs between 0 and 1")
        if self.epochs < 1 or self.extra < 2:
            raise StageError(
                f"params.epochs={self.epochs}, params.extra={self.extra}: expected 1 or more, and 2 or more (DCP takes one)"
            )

    def share(self, budget: str) -> float:
        """The share of a budget's name. Raises StageError if there is none."""
        if budget not in self.budgets:
            raise StageError(f"budget={budget}: expected one of {', '.join(self.budgets)}")
        return self.budgets[budget]


def method(name: str, known: tuple[str, ...]) -> None:
    """StageError that lists the stage's methods if `name` is none of them."""
    if name not in known:
        raise StageError(f"method={name}: this stage knows {', '.join(known)}")
