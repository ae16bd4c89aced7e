"""What is compared: CHEX, its parts changed one at a time, and other ways to a net of the same MACs."""

from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError

Kind = Literal["explore", "dense", "uniform", "two_step"]


@dataclass(frozen=True)
class Arm:
    """How one arm comes to its net. The other fields matter to arms that explore."""

    kind: Kind = "explore"
    score: Literal["leverage", "l1"] = "leverage"  # which channels of a layer stay
    sampling: Literal["projection", "uniform"] = "projection"  # probability of coming back
    restore: Literal["mru", "zero"] = "mru"  # with which values
    regrow: bool = True  # False: delta_0 = 0


ARMS: dict[str, Arm] = {
    "chex": Arm(),
    "prune_only": Arm(regrow=False),
    "l1": Arm(score="l1"),
    "random_regrow": Arm(sampling="uniform"),
    "zero_regrow": Arm(restore="zero"),
    "uniform": Arm("uniform"),
    "two_step": Arm("two_step"),
    "dense": Arm("dense"),
}


def find(name: str) -> Arm:
    """The arm of that name; StageError that lists the arms where there is none."""
    if name not in ARMS:
        raise StageError(f"arm={name}: there is no such arm; choose one of {', '.join(ARMS)}")
    return ARMS[name]
