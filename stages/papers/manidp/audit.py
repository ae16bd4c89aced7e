"""Sizes and multiply-adds of the paper's nets and gates, computed without training and set beside the printed figures."""

from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.manidp.train import Net

CSV = "runs/audit/manidp.csv"


@dataclass
class Figure:
    """A printed figure: `quantity` of `net`, or the difference or quotient of two printed numbers."""

    net: str = ""  # of AuditParams.nets
    quantity: str = MISSING  # parameters, macs, gate_parameters, gate_macs, reduction, gap
    value: float = MISSING
    digits: int = 0  # decimals to which the value is printed; used by reduction and gap
    of: list[float] = field(default_factory=list)  # gap: the two printed errors; reduction: the pruned net's MACs
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/manidp/paper.yaml."""

    nets: dict[str, Net] = field(help="constructor and options of each net, by name")
    squeeze: int = field(help="q of the gates")
    figures: list[Figure] = field(help="printed figures: net, quantity, value, where they were read")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


def sizes(net: Net, squeeze: int) -> dict[str, int]:
    """Parameters and MACs of a net and of its gates; StageError if the counter of real operations disagrees."""
    import torch

    from stages.lib import macs
    from stages.papers.manidp.gated import GatedNet
    from stages.papers.manidp.nets import construct

    with torch.device("meta"):  # shapes only
        record = construct(net.name, **net.options).record()
    gated = {"kind": GatedNet.kind, "input": record["input"], "classes": record["classes"], "net": record, "squeeze": squeeze}
    dense, whole = macs.total(record), macs.total(gated)
    for content, total in ((record, dense), (gated, whole)):
        counted = macs.count_record(content)
        if counted != total.macs:
            raise StageError(f"MACs of {content['kind']}: closed form {total.macs}, counted {counted}; the form is wrong")
    return {
        "parameters": dense.params, "macs": dense.macs,
        "gate_parameters": whole.params - dense.params, "gate_macs": whole.macs - dense.macs,
    }  # fmt: skip


def row(figure: Figure, params: AuditParams, known: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The audit row (columns of reports/audit.csv) of one figure."""
    if figure.quantity == "gap":
        computed, allowed = figure.of[0] - figure.of[1], 0.5 * 10.0**-figure.digits / figure.value
    else:
        if figure.net not in params.nets:
            names = ", ".join(params.nets)
            raise StageError(
                f"params/manidp/paper.yaml: audit.figures: net {figure.net!r} is not in audit.nets; expected one of {names}"
            )
        if figure.net not in known:
            known[figure.net] = sizes(params.nets[figure.net], params.squeeze)
        if figure.quantity == "reduction":
            # Two sources, perhaps two trainings: one and a half units of the last printed decimal are allowed.
            computed, allowed = 100 * (1 - figure.of[0] / known[figure.net]["macs"]), 1.5 * 10.0**-figure.digits / figure.value
        elif figure.quantity in known[figure.net]:
            computed, allowed = known[figure.net][figure.quantity], 0.0
        else:
            raise StageError(f"params/manidp/paper.yaml: audit.figures: there is no quantity {figure.quantity!r}")
    quantity = figure.quantity.replace("_", " ")
    return audit_row("manidp", figure.net or "errors", quantity, figure.value, computed, allowed, figure.read_from)


@stage(Config, paper="manidp", section="audit")
def main(cfg: Config) -> None:
    """Compute parameters and MACs of every net that the paper or the specification prints, and write runs/audit/manidp.csv.

    One MAC is one multiply-add of a convolution or linear map (the paper's FLOPs), computed in closed form and counted.
    """
    known: dict[str, dict[str, int]] = {}
    table = [row(figure, cfg.params, known) for figure in cfg.params.figures]
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
