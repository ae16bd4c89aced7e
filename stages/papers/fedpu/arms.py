"""What is compared: an objective of the clients, the server's rule, and priors that may be wrong."""

from dataclasses import dataclass

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Arm:
    """One variant. `prior_factor` multiplies the priors of a client's positive classes; `clamped`: in any case."""

    objective: str
    prox: bool = False
    prior_factor: float = 1.0
    clamped: bool = False


ARMS: dict[str, Arm] = {
    "fedpu": Arm("ce_risk"),
    "clamped": Arm("ce_risk", clamped=True),
    "risk": Arm("risk"),
    "code_v1": Arm("code_v1"),
    "code_v2": Arm("code_v2"),
    "positives_only": Arm("positives_only"),
    "pseudo_label": Arm("pseudo_label"),
    "one_negative": Arm("one_negative"),
    "fedpu_prox": Arm("ce_risk", prox=True),
    "positives_prox": Arm("positives_only", prox=True),
    "supervised": Arm("supervised"),
    "fedpu_half": Arm("ce_risk", prior_factor=0.5),
    "fedpu_double": Arm("ce_risk", prior_factor=2.0),
}


def find(name: str) -> Arm:
    """The arm of that name. Raises StageError that lists them."""
    if name not in ARMS:
        raise StageError(f"arm={name}: there is no such arm; choose one of {', '.join(ARMS)}")
    return ARMS[name]


def chosen(names: list[str]) -> list[str]:
    """The named arms in the order of ARMS, all if none is named. Raises StageError for an unknown one."""
    for name in names:
        find(name)
    return [name for name in ARMS if not names or name in names]


def rate(lr: dict[str, float], name: str) -> float:
    """An arm's learning rate. Raises StageError if the params file has none."""
    if name not in lr:
        raise StageError(f"params.lr: has no learning rate for {name}; it has {', '.join(lr) or 'none'}")
    return lr[name]
