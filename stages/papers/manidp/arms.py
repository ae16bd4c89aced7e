"""What is compared: ManiDP, its two parts, dynamic pruning without them, static pruning and no pruning."""

from dataclasses import dataclass

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Arm:
    """Which of the method's parts an arm has."""

    gated: bool = True
    complexity: bool = False  # the sparsity weight of an image falls with its loss; else all have the batch's mean weight
    similarity: bool = False  # similarities in saliency and in features are aligned
    static: bool = False  # after a share of the passes the mean saliencies become one mask for all images


ARMS: dict[str, Arm] = {
    "manidp": Arm(complexity=True, similarity=True),
    "complexity": Arm(complexity=True),
    "similarity": Arm(similarity=True),
    "plain": Arm(),
    "static": Arm(static=True),
    "dense": Arm(gated=False),
}


def find(name: str) -> Arm:
    """The arm of that name; StageError that lists the arms where there is none."""
    if name not in ARMS:
        raise StageError(f"arm={name}: there is no such arm; choose one of {', '.join(ARMS)}")
    return ARMS[name]
