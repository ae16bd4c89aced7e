"""What is compared: DCP, its parts, other criteria at the same kept counts, and nets that are not pruned by choice."""

from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError

Order = Literal["greedy", "l1", "random", "all", "fresh"]


@dataclass(frozen=True)
class Arm:
    """How one arm chooses. `order` is where the sequence of groups comes from: the gradient of L (`greedy`), a
    criterion that is computed once, `all` (nothing is pruned) or `fresh` (DCP's widths, new weights)."""

    order: Order
    rebuild: bool = True  # L_M is part of the objective
    classify: bool = True  # lambda L_S is part of the objective
    refit: bool = True  # the chosen columns are re-optimised after each step, problem (8)
    kernels: bool = False  # groups are 2-D kernels (DKP) instead of input channels
    adaptive: bool = False  # eq. 10 decides how many


ARMS: dict[str, Arm] = {
    "dcp": Arm("greedy"),
    "dcp_30": Arm("greedy"),  # dcp at another ratio: params' `ratios` says which
    "dcp_50": Arm("greedy"),
    "dcp_adapt": Arm("greedy", adaptive=True),
    "dkp": Arm("greedy", kernels=True),
    "reconstruction": Arm("greedy", classify=False),
    "cross_entropy": Arm("greedy", rebuild=False),
    "l1": Arm("l1", refit=False),
    "random": Arm("random", refit=False),
    "l1_refit": Arm("l1"),
    "random_refit": Arm("random"),
    "thin_scratch": Arm("fresh", refit=False),
    "dense": Arm("all", refit=False),
}


def find(name: str) -> Arm:
    """The arm of that name; StageError that lists the arms where there is none."""
    if name not in ARMS:
        raise StageError(f"arm={name}: there is no such arm; choose one of {', '.join(ARMS)}")
    return ARMS[name]
