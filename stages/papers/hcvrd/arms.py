"""What is compared: where the evidence of a label comes from, and how it is pooled."""

from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError

Kind = Literal["metric", "annotated", "classifier", "web", "mixture", "factorised", "context", "language", "frequency"]
COMPOSED = ("factorised", "context", "language", "frequency")  # their scores are probabilities; no label set normalises them


@dataclass(frozen=True)
class Arm:
    """One way to score labels.

    metric: distance to prototypes of web bags; annotated: the same metric without web images; classifier: softmax over seen
    labels; web: classifier of web images alone; mixture: classifier of web and annotated images mixed; factorised: the
    predicate from the region, subject and object from the detector; context: so, with weights that depend on both words;
    language: the predicate from both words; frequency: how often a label was annotated.
    """

    kind: Kind
    attention: bool = True
    grouped: bool = True  # bags of several images
    clean: bool = False  # no spoiled web images

    @property
    def evidence(self) -> bool:
        """Whether it has prototypes of web bags."""
        return self.kind == "metric"


ARMS: dict[str, Arm] = {
    "full": Arm("metric"),
    "no_attention": Arm("metric", attention=False),
    "single": Arm("metric", grouped=False),
    "full_clean": Arm("metric", clean=True),
    "single_clean": Arm("metric", grouped=False, clean=True),
    "no_web": Arm("annotated"),
    "softmax": Arm("classifier"),
    "web_only": Arm("web"),
    "mixture": Arm("mixture", attention=False, grouped=False),
    "factorised": Arm("factorised"),
    "context": Arm("context"),
    "language": Arm("language"),
    "frequency": Arm("frequency"),
}


def find(name: str) -> Arm:
    """The arm of a name; StageError that lists the arms where there is none."""
    if name not in ARMS:
        raise StageError(f"params.arms: there is no arm {name}; choose from {', '.join(ARMS)}")
    return ARMS[name]
