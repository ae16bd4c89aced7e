"""What can be checked without training: the data set's counts against each other, sizes of the nets, the noise of bags."""

from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage

CSV = "runs/audit/hcvrd.csv"
DATA = "HCVRD, the data set"


@dataclass
class Sum:
    """A published count, and the published counts that must add up to it."""

    quantity: str = MISSING
    parts: list[int] = field(default_factory=list)
    total: int = MISSING
    read_from: str = MISSING


@dataclass
class ContextFigures:
    """Shape and size of the context-aware layer."""

    channels: int = MISSING
    predicates: int = MISSING
    words: int = MISSING
    rank: int = MISSING
    parameters: int = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/hcvrd/paper.yaml."""

    sums: list[Sum] = field(default_factory=list, help="counts that must add up")
    nets: dict[str, int] = field(default_factory=dict, help="parameters of nets by name")
    nets_read_from: str = field(help="where they were read")
    context: ContextFigures = field(default_factory=ContextFigures, help="the context-aware layer")
    context_read_from: str = field(help="where its size was read")
    noise: float = field(help="share of wrong web images")
    bags: list[int] = field(default_factory=list, help="images of a bag")
    draws: int = field(help="bags that are simulated")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


def sum_rows(sums: list[Sum]) -> list[dict[str, Any]]:
    """A row for each count that others make up."""
    return [audit_row("hcvrd", DATA, one.quantity, one.total, sum(one.parts), 0.0, one.read_from) for one in sums]


def net_rows(nets: dict[str, int], read_from: str) -> list[dict[str, Any]]:
    """Parameters of torchvision's nets, built without memory. Raises StageError for another name."""
    import torch

    from stages.lib import macs
    from stages.papers.hcvrd import detector

    rows = []
    for name, published in nets.items():
        if name not in detector.BUILDERS:
            raise StageError(f"params.nets: {name} is none of {', '.join(detector.BUILDERS)}")
        with torch.device("meta"):
            own = macs.parameters(detector.BUILDERS[name]())
        rows.append(audit_row("hcvrd", name, "parameters", published, own, 0.0, read_from))
    return rows


def context_row(figures: ContextFigures, read_from: str) -> dict[str, Any]:
    """The size of the context-aware layer, counted."""
    import torch

    from stages.lib import macs
    from stages.papers.hcvrd.context import ContextLayer

    with torch.device("meta"):
        own = macs.parameters(ContextLayer(figures.channels, figures.predicates, figures.words, figures.rank))
    return audit_row("hcvrd", "Context-aware layer", "parameters", figures.parameters, own, 0.0, read_from)


def noise_rows(params: AuditParams) -> list[dict[str, Any]]:
    """Share of simulated bags without a right image, beside q^B."""
    import numpy

    rows = []
    for size in params.bags:
        wrong = numpy.random.RandomState(size).random_sample((params.draws, size)) < params.noise
        published, own = params.noise**size, float(wrong.all(1).mean())
        rows.append(audit_row("hcvrd", f"Bags of {size}, noise {params.noise:g}", "share without a right image", published, own,
                              0.05, "closed form q^B"))  # fmt: skip
    return rows


@stage(Config, paper="hcvrd", section="audit")
def main(cfg: Config) -> None:
    """Check published counts against each other, count parameters and simulate bags; write runs/audit/hcvrd.csv.

    The publisher's files themselves are counted by the prepare stage, and by the tests where they are at hand.
    """
    params = cfg.params
    rows = sum_rows(params.sums) + net_rows(params.nets, params.nets_read_from)
    write_audit(CSV, [*rows, context_row(params.context, params.context_read_from), *noise_rows(params)])


if __name__ == "__main__":
    main()
