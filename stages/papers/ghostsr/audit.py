"""Sizes of the paper's nets, dense and converted, computed without training and set beside the printed figures."""

from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.ghostsr.settings import Backbone

CSV, PAPER = "runs/audit/ghostsr.csv", "ghostsr"
DECIMALS = 3  # of the specification's MACs in units of 1e9


@dataclass
class NetFigures:
    """A net with its sizes, dense and with ghost modules; MACs in 1e9, shifts at none, logits among the parameters."""

    net: Backbone = field(default_factory=Backbone)
    parameters: int = MISSING
    ghost_parameters: int = MISSING
    macs: float | None = None
    ghost_macs: float | None = None
    read_from: str = MISSING


@dataclass
class Printed:
    """A printed figure. quantity: parameters, macs, bytes, or the share cut from the dense net: parameter_cut, mac_cut."""

    net: str = MISSING
    ghost: bool = False
    quantity: str = MISSING
    value: float = MISSING
    tolerance: float = field(help="largest relative error, half a unit of the last digit printed")
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/ghostsr/paper.yaml."""

    width: int = field(help="of the enlarged image that MACs are counted for")
    height: int = field(help="the same")
    ratio: float = field(help="share of intrinsic maps")
    nets: dict[str, NetFigures] = field(default_factory=dict, help="nets by name")
    printed: list[Printed] = field(default_factory=list, help="rounded figures of those nets")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


@dataclass(frozen=True)
class Sizes:
    """Of one net, dense and converted."""

    parameters: int
    ghost_parameters: int
    macs: int
    ghost_macs: int


def sizes(shape: Backbone, params: AuditParams) -> Sizes:
    """Closed forms; StageError if a net of that shape counts differently."""
    import torch

    from stages.lib import macs
    from stages.papers.ghostsr import cost
    from stages.papers.ghostsr.conversion import exported
    from stages.papers.ghostsr.ghost import GhostOptions
    from stages.papers.ghostsr.saved import Form

    options, size = GhostOptions(params.ratio), (params.height // shape.factor, params.width // shape.factor)
    parts = cost.dense(shape, *size)
    dense, ghost = cost.total(parts), cost.total(cost.ghost(parts, options))
    found = Sizes(dense.parameters, ghost.parameters + cost.logits(parts, options), dense.macs, ghost.macs)
    with torch.device("meta"):  # shapes only
        net, image = Form(shape).build(), torch.empty(1, 3, *size)
        converted = Form(shape, "ghost", options).build()
        counted = Sizes(macs.parameters(net), macs.parameters(converted), macs.count(net, image),
                        macs.count(exported(converted), image))  # fmt: skip
    if counted != found:
        raise StageError(f"sizes of {shape.name} x{shape.factor}: closed form {found}, counted {counted}; it is wrong")
    return found


def net_rows(name: str, figures: NetFigures, found: Sizes) -> list[dict[str, Any]]:
    """Sizes of one net beside the specification's, to the last digit."""
    rows = []
    for kind, what in (("dense", ""), ("with ghost modules", "ghost_")):
        label = f"{name}, {kind}"
        told = getattr(figures, f"{what}parameters")
        rows.append(audit_row(PAPER, label, "parameters", told, getattr(found, f"{what}parameters"), 0.0, figures.read_from))
        printed = getattr(figures, f"{what}macs")
        if printed is not None:
            own = round(getattr(found, f"{what}macs") / 1e9, DECIMALS)
            rows.append(audit_row(PAPER, label, "MACs (1e9, to three decimals)", printed, own, 0.0, figures.read_from))
    return rows


QUANTITIES = {
    "parameters": "parameters", "macs": "MACs", "bytes": "bytes of 32-bit weights", "parameter_cut": "share of parameters cut",
    "mac_cut": "share of MACs cut",
}  # fmt: skip


def printed_row(figure: Printed, found: dict[str, Sizes]) -> dict[str, Any]:
    """A rounded figure beside the computed one. Raises StageError for an unknown net or quantity."""
    if figure.net not in found or figure.quantity not in QUANTITIES:
        raise StageError(f"params/ghostsr/paper.yaml: audit.printed: {figure.net} {figure.quantity}: unknown net or quantity")
    own, kind = found[figure.net], "ghost_" if figure.ghost else ""
    computed = {
        "parameters": getattr(own, f"{kind}parameters"), "macs": getattr(own, f"{kind}macs"),
        "bytes": 4 * getattr(own, f"{kind}parameters"), "parameter_cut": 1 - own.ghost_parameters / own.parameters,
        "mac_cut": 1 - own.ghost_macs / own.macs,
    }[figure.quantity]  # fmt: skip
    label = f"{figure.net}, {'with ghost modules' if figure.ghost else 'dense'}"
    return audit_row(PAPER, label, QUANTITIES[figure.quantity], figure.value, computed, figure.tolerance, figure.read_from)


@stage(Config, paper="ghostsr", section="audit")
def main(cfg: Config) -> None:
    """Compute sizes of the four backbones, dense and converted, to the digit; write runs/audit/ghostsr.csv.

    MACs are counted for one enlarged image of the printed size; a shift costs none. Closed form and counter must agree.
    """
    found = {name: sizes(figures.net, cfg.params) for name, figures in cfg.params.nets.items()}
    rows = [line for name, figures in cfg.params.nets.items() for line in net_rows(name, figures, found[name])]
    write_audit(CSV, rows + [printed_row(figure, found) for figure in cfg.params.printed])


if __name__ == "__main__":
    main()
