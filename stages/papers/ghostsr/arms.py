"""What is compared: how the layers of a pre-trained net are made, and which nets start from scratch instead."""

from dataclasses import dataclass

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Arm:
    """One variant. form: dense (the pre-trained net itself), ghost, hidden and uniform (narrow nets from scratch).

    The other fields are those of a ghost net: how its filters are chosen and put in order, what makes ghosts, how offsets
    are found and where their logits start.
    """

    form: str = "ghost"
    filters: str = "kmeans"
    inheritance: str = "matched"
    cheap: str = "shift"
    estimator: str = "official"
    logits: str = "official"

    @property
    def scratch(self) -> bool:
        """Whether it has all passes of pre-training and fine-tuning from random weights."""
        return self.form in ("hidden", "uniform")


TRAINED: dict[str, Arm] = {
    "full": Arm("dense"),
    "ghost": Arm(),
    "softmax": Arm(estimator="gumbel_softmax"),
    "copy": Arm(estimator="frozen", logits="centre"),
    "drawn": Arm(estimator="frozen"),
    "random": Arm(filters="random"),
    "depthwise": Arm(cheap="depthwise"),
    "narrow": Arm("hidden"),
    "uniform": Arm("uniform"),
}

# Measured before any fine-tuning: plain copies, so that only the choice and the order of the filters differ.
BEFORE: dict[str, Arm] = {
    "ghost": TRAINED["copy"],
    "random": Arm(filters="random", estimator="frozen", logits="centre"),
    "scrambled": Arm(inheritance="scrambled", estimator="frozen", logits="centre"),
}


def chosen(names: list[str]) -> dict[str, Arm]:
    """The trained arms of a list; StageError that names them all where one does not exist."""
    for name in names:
        if name not in TRAINED:
            raise StageError(f"params.arms: there is no arm {name}; choose among {', '.join(TRAINED)}")
    return {name: TRAINED[name] for name in names}
