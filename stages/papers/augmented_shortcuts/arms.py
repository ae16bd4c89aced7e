"""What is compared: a vision transformer without and with augmented shortcuts of several forms. No torch here."""

from dataclasses import dataclass

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Arm:
    """How the shortcuts of all blocks look; without paths it is the plain net."""

    paths: int = 0  # T
    circulant: bool = True  # or dense projections
    activation: bool = True  # GELU of each path
    normed: bool = True  # the paths' input is LN(x), as in the official code, and not x, as in the paper's formula
    scale: float = 1.0  # of the sum; 3/4 in the official code where T = 2
    identity: bool = True
    widened: bool = False  # MLP with at least as many parameters more as the paths of `augmented` have


ARMS: dict[str, Arm] = {
    "augmented": Arm(paths=2),
    "official": Arm(paths=2, scale=0.75),
    "formula": Arm(paths=2, normed=False),
    "one_path": Arm(paths=1),
    "linear": Arm(paths=1, activation=False),
    "dense": Arm(paths=2, circulant=False),
    "plain": Arm(),
    "wide": Arm(widened=True),
    "no_shortcut": Arm(identity=False),
    "paths_only": Arm(paths=2, identity=False),
}


def find_arm(name: str) -> Arm:
    """The arm of that name. Raises StageError that lists them."""
    if name not in ARMS:
        raise StageError(f"arm {name}: there is no such arm; choose among {', '.join(ARMS)}")
    return ARMS[name]
