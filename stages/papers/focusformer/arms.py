"""What is compared: which supernet, and how an architecture is taken from it for each budget."""

from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError

SUPERNETS = ("uniform", "uniform_extra", "focus")


@dataclass(frozen=True)
class Arm:
    """A trained supernet and a way to choose from it."""

    supernet: Literal["uniform", "uniform_extra", "focus"]
    choice: Literal["evolution", "random", "decode"]
    retrained: bool = False  # whether its architectures are trained again where the params file asks for that


ARMS: dict[str, Arm] = {
    "focus_decode": Arm("focus", "decode", retrained=True),
    "focus_evolution": Arm("focus", "evolution"),
    "uniform_evolution": Arm("uniform", "evolution", retrained=True),
    "uniform_random": Arm("uniform", "random"),
    "uniform_extra": Arm("uniform_extra", "evolution"),
}


def find_supernet(name: str) -> str:
    """The name itself; StageError that lists the supernets where there is none of that name."""
    if name not in SUPERNETS:
        raise StageError(f"supernet={name}: there is no such supernet; choose one of {', '.join(SUPERNETS)}")
    return name
