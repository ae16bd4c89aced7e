"""All objectives of a client by name."""

from collections.abc import Callable

from torch import Tensor

from stages.lib.errors import StageError
from stages.papers.fedpu import official, peers, risk
from stages.papers.fedpu.clients import Known
from stages.papers.fedpu.risk import Batch
from stages.papers.fedpu.settings import Risk

Objective = Callable[[Batch, Known, Risk], Tensor]
OBJECTIVES: dict[str, Objective] = {
    "ce_risk": risk.ce_risk,
    "risk": risk.risk,
    "code_v1": official.code_v1,
    "code_v2": official.code_v2,
    "positives_only": peers.positives_only,
    "pseudo_label": peers.pseudo_label,
    "one_negative": peers.one_negative,
    "supervised": peers.supervised,
}


def find(name: str) -> Objective:
    """The objective of that name. Raises StageError that lists them."""
    if name not in OBJECTIVES:
        raise StageError(f"objective {name}: there is no such objective; choose one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
