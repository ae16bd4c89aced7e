"""What is compared: DI in the greedy loop, other scores in the same loop, other structures, nets not pruned by choice."""

from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError

Structure = Literal["greedy", "uniform", "transferred", "fresh", "whole", "bits"]


@dataclass(frozen=True)
class Arm:
    """How one arm makes its net.

    `structure` is where the widths come from: the greedy loop, one ratio for all layers, the widths of the loop at the
    default budget scaled to another, `fresh` (uniform widths, new weights), `whole` (nothing is pruned) or `bits`
    (nothing is pruned, weights are quantised). `score` ranks channels; for `bits` it weighs their errors.
    """

    structure: Structure
    score: str = ""
    distil: bool = False  # fine-tuning learns from the net that is not pruned


ARMS: dict[str, Arm] = {
    "di": Arm("greedy", "di"),
    "di_56": Arm("greedy", "di"),  # at other budgets than di: params' `budgets`
    "di_30": Arm("greedy", "di"),
    "di_exact": Arm("greedy", "di_exact"),
    "l1": Arm("greedy", "l1"),
    "l1_30": Arm("greedy", "l1"),
    "random": Arm("greedy", "random"),
    "leverage": Arm("greedy", "leverage"),
    "dcp": Arm("greedy", "dcp"),
    "bn_scale": Arm("greedy", "bn_scale"),
    "uniform_di": Arm("uniform", "di"),
    "uniform_l1": Arm("uniform", "l1"),
    "transferred_30": Arm("transferred", "di"),
    "distilled": Arm("greedy", "di", distil=True),
    "thin_scratch": Arm("fresh"),
    "dense": Arm("whole"),
    "mixed_bits": Arm("bits", "di"),
    "plain_bits": Arm("bits", "plain"),
    "uniform_bits": Arm("bits", "uniform"),
}


def find(name: str) -> Arm:
    """The arm of that name; StageError that lists the arms where there is none."""
    if name not in ARMS:
        raise StageError(f"arm={name}: there is no such arm; choose one of {', '.join(ARMS)}")
    return ARMS[name]
