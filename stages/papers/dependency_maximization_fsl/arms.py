"""What is compared on the same tasks: a loss, a way to select points, and how long a fit lasts."""

from dataclasses import dataclass

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Arm:
    """One way to classify a task's query images.

    loss: ce, mi, dm, hybrid, or none for the prototypes themselves; selection: ida, random, confidence, or none for a
    single fit; all_steps: a single fit with as many steps as all rounds and the last fit together.
    """

    loss: str
    selection: str = "none"
    all_steps: bool = False


ARMS = {
    "dm_ida": Arm("dm", "ida"),
    "hybrid_ida": Arm("hybrid", "ida"),
    "ce_ida": Arm("ce", "ida"),
    "dm_random": Arm("dm", "random"),
    "dm_confidence": Arm("dm", "confidence"),
    "dm": Arm("dm"),
    "hybrid": Arm("hybrid"),
    "mi": Arm("mi"),
    "mi_long": Arm("mi", all_steps=True),
    "ce": Arm("ce"),
    "prototype": Arm("none"),
}


def find_arm(name: str) -> Arm:
    """The arm of that name. Raises StageError if there is none."""
    if name not in ARMS:
        raise StageError(f"arms: {name} is none of {', '.join(ARMS)}; correct the params file")
    return ARMS[name]
