"""Sizes and multiply-adds of the paper's nets, computed without training and set beside the printed figures."""

import functools
import json
from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.dcp.train import Net

CSV = "runs/audit/dcp.csv"
QUANTITIES = {"parameters": "parameters", "macs": "MACs"}  # key of params and record -> name in the table


@dataclass
class Figure:
    """A pair of printed figures.

    With `widths` the net's sites get those widths, else all are pruned at the rate `eta`.
    """

    net: str = MISSING
    eta: float = 0.0
    widths: list[int] = field(default_factory=list)
    name: str = ""  # of a configuration that is not just a rate
    ratio: bool = False  # printed as dense / pruned, not as a size
    exact: bool = False  # known to the digit, not rounded
    parameters: float = MISSING
    macs: float = MISSING
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/dcp/paper.yaml."""

    nets: dict[str, Net] = field(help="constructor and options of each net, by name")
    significant: int = field(help="digits to which the paper prints sizes")
    decimals: int = field(help="decimals to which the paper prints ratios")
    figures: list[Figure] = field(help="printed figures: net, eta or widths, parameters, macs, where they were read")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


def half_unit(value: float, significant: int) -> float:
    """Largest relative error of `value` printed to that many significant digits: half a unit of the last one."""
    mantissa, _, exponent = f"{value:.{significant - 1}e}".partition("e")
    return 0.5 * 10.0 ** (int(exponent) - significant + 1) / (float(mantissa) * 10.0 ** int(exponent))


def tolerance(published: float, dense: int, pruned: int, figure: Figure, params: AuditParams) -> float:
    """Relative error that rounding alone explains.

    A size was rounded once. A ratio was rounded to `decimals`, and formed from sizes already rounded like the tables'
    (the paper's 1.92 is 2.00e7 / 1.04e7; the unrounded sizes give 1.93).
    """
    if figure.exact:
        return 0.0
    if not figure.ratio:
        return half_unit(published, params.significant)
    parts = half_unit(dense, params.significant) + half_unit(pruned, params.significant)
    return 0.5 * 10.0**-params.decimals / published + parts


def cost(record: dict) -> dict[str, int]:
    """Parameters and MACs of a record, by the closed form; StageError if the counter of real operations disagrees."""
    return dict(_cost(json.dumps(record, sort_keys=True)))


@functools.cache  # several figures share a dense net
def _cost(text: str) -> dict[str, int]:
    from stages.lib import macs

    record = json.loads(text)
    total = macs.total(record)
    counted = macs.count_record(record)
    if counted != total.macs:
        raise StageError(
            f"MACs of {record['kind']}: closed form {total.macs}, counted {counted}; the closed form of that family is wrong"
        )
    return {"parameters": total.params, "macs": total.macs}


def records(figure: Figure, nets: dict[str, Net]) -> tuple[dict, dict]:
    """Architecture records of the dense and of the pruned net of a figure.

    StageError for a net or a number of widths that does not exist.
    """
    import torch

    from stages.lib import models, surgery

    if figure.net not in nets:
        raise StageError(
            f"params/dcp/paper.yaml: audit.figures: net {figure.net!r} is not in audit.nets; expected one of {', '.join(nets)}"
        )
    with torch.device("meta"):  # shapes only
        net = models.construct(nets[figure.net].name, **nets[figure.net].options)
    widths = surgery.kept_widths(net, figure.eta)
    if figure.widths:
        if len(figure.widths) != len(widths):
            raise StageError(
                f"params/dcp/paper.yaml: audit.figures: {figure.net} has {len(widths)} pruned widths, got {len(figure.widths)}"
            )
        widths = dict(zip(widths, figure.widths, strict=True))
    return net.record(), type(net).narrowed(net.record(), widths)


def rows(figure: Figure, params: AuditParams) -> list[dict[str, Any]]:
    """The audit rows (columns of reports/audit.csv) of one figure."""
    dense, pruned = (cost(record) for record in records(figure, params.nets))
    found = []
    for quantity in QUANTITIES:
        published = getattr(figure, quantity)
        computed = dense[quantity] / pruned[quantity] if figure.ratio else pruned[quantity]
        name = f"{figure.net}, {figure.name or f'eta {figure.eta:g}'}"
        label = QUANTITIES[quantity] + (" ratio, dense to pruned" if figure.ratio else "")
        allowed = tolerance(published, dense[quantity], pruned[quantity], figure, params)
        found.append(audit_row("dcp", name, label, published, computed, allowed, figure.read_from))
    return found


@stage(Config, paper="dcp", section="audit")
def main(cfg: Config) -> None:
    """Compute parameters and MACs of every net and pruning rate that the paper prints, and write runs/audit/dcp.csv.

    One MAC is one multiply-add of a convolution or linear map (the paper's FLOPs). Each figure is computed twice: in
    closed form from the
    architecture, and by counting the operations of a forward pass.
    """
    table = [row for figure in cfg.params.figures for row in rows(figure, cfg.params)]
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
