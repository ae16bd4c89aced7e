"""What is compared: which dimensions may be sparse, how the policy is chosen, and what ranks heads, neurons and tokens."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Arm:
    """A way to a compressed net of a budget's FLOPs; all are fine-tuned alike."""

    choice: Literal["guided", "random_search", "first", "uniform", "dense", "as_tight"] = "guided"
    dimensions: tuple[str, ...] = ("neurons", "heads", "tokens")
    criterion: Literal["dependency", "hsic", "l1", "random"] = "dependency"
    token_score: Literal["cls_attention", "hsic_x_attention"] = "cls_attention"
    tight: bool = False  # the smaller of the two budgets

    @property
    def searched(self) -> bool:
        """Whether candidates are scored."""
        return self.choice in ("guided", "random_search")


ARMS: dict[str, Arm] = {
    "joint": Arm(),
    "random_search": Arm("random_search"),
    "random_policy": Arm("first"),
    "uniform": Arm("uniform"),
    "neurons_only": Arm(dimensions=("neurons",)),
    "heads_only": Arm(dimensions=("heads",)),
    "tokens_only": Arm(dimensions=("tokens",)),
    "dense": Arm("dense"),
    "tight": Arm(tight=True),
    "tight_random_search": Arm("random_search", tight=True),
    "tight_uniform": Arm("uniform", tight=True),
    "rank_hsic": Arm(criterion="hsic", tight=True),
    "rank_l1": Arm(criterion="l1", tight=True),
    "rank_random": Arm(criterion="random", tight=True),
    "token_hsic": Arm("as_tight", token_score="hsic_x_attention", tight=True),
}
