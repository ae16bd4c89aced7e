"""What is compared: which net, and what it was trained on before the fine-tuning that all share."""

from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Arm:
    """A net, and its pre-training if it has one.

    `tasks`: on all tasks or on a single one. `contrastive`: with that term. `long`: from scratch, with as many more steps
    as its share of a pre-training. `scaled`: whether it is fine-tuned to super-resolution too.
    """

    net: Literal["ipt", "edsr", "dncnn"]
    tasks: Literal["all", "single"] | None = None
    contrastive: bool = False
    long: bool = False
    scaled: bool = True


INPUT = "input"  # the corrupted image itself, enlarged by bicubic interpolation
PRETRAINED: dict[str, Arm] = {
    "ipt": Arm("ipt", "all", contrastive=True),
    "ipt_plain": Arm("ipt", "all"),
    "ipt_single": Arm("ipt", "single"),
    "edsr_pretrained": Arm("edsr", "all"),
}
SCRATCH: dict[str, Arm] = {
    "ipt_scratch": Arm("ipt"),
    "ipt_scratch_long": Arm("ipt", long=True),
    "edsr_scratch": Arm("edsr"),
    "dncnn_scratch": Arm("dncnn", long=True, scaled=False),
}


def find_pretrained(name: str) -> Arm:
    """The arm of a name; StageError that lists the arms where there is none, or none with a pre-training."""
    if name not in PRETRAINED:
        raise StageError(f"arm={name}: there is no such arm with a pre-training; choose one of {', '.join(PRETRAINED)}")
    return PRETRAINED[name]
