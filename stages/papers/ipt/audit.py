"""Stage: sizes of the paper's nets, computed without training and set beside the published figures."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.ipt.settings import Net

CSV = "runs/audit/ipt.csv"


@dataclass
class Figures:
    """A configuration of the net, and what is published of it. The official counts hold 24 frozen numbers (colour shifts)."""

    tasks: list[str] = field(default_factory=list)
    layers: int = MISSING
    parameters: int = MISSING
    trainable: int | None = None
    gmacs: float | None = None
    read_from: str = MISSING


@dataclass
class Part:
    """A part of the net and its learnable numbers: encoder, decoder, body, head, query, tail1 to tail4, or a layer."""

    part: str = MISSING
    parameters: int = MISSING
    macs: int | None = None
    read_from: str = MISSING


@dataclass
class Printed:
    """The paper's rounded size of the net of one task x2: millions of numbers, 1e9 MACs."""

    millions: float = MISSING
    gmacs: float = MISSING
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/ipt/paper.yaml."""

    nets: dict[str, Figures] = field(default_factory=dict, help="configurations by name")
    parts: list[Part] = field(default_factory=list, help="parts of the net of 12 + 12 layers")
    printed: Printed = field(default_factory=Printed, help="the paper's own rounded figures")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    net: Net = field(default_factory=Net)
    params: AuditParams = field(default_factory=AuditParams)


row = partial(audit_row, "ipt")


def counted(net: Net, tasks: list[str]) -> tuple[int, int | None]:
    """(learnable numbers, MACs of a patch if there is one task); StageError if the closed form says something else."""
    import torch

    from stages.lib import macs
    from stages.papers.ipt import cost
    from stages.papers.ipt.network import IPT

    with torch.device("meta"):  # shapes only
        model = IPT(tasks, net)
        found = macs.parameters(model), None
        if len(tasks) == 1:
            found = found[0], macs.count(model, torch.empty(1, 3, net.image, net.image))
    closed = cost.parameters(net, tasks), cost.macs(net, tasks[0]) if len(tasks) == 1 else None
    if found != closed:
        raise StageError(f"IPT with {', '.join(tasks)}: closed form {closed}, counted {found}; the closed form is wrong")
    return found


def net_rows(name: str, net: Net, figures: Figures) -> list[dict[str, Any]]:
    """Rows of one configuration; MACs are printed in 1e9 with three decimals."""
    from stages.papers.ipt import cost
    from stages.papers.ipt.tasks import task

    net = dataclasses.replace(net, layers=figures.layers)
    found, macs = counted(net, list(figures.tasks))
    lines = [row(name, "parameters", figures.parameters, found + cost.SHIFT_PARAMETERS, 0.0, figures.read_from)]
    if figures.trainable is not None:
        lines.append(row(name, "trainable parameters", figures.trainable, found, 0.0, figures.read_from))
    if figures.gmacs is not None and macs is not None:
        shifted = (macs + cost.shifts(net, task(figures.tasks[0]).scale).macs) / 1e9
        lines.append(row(name, "1e9 MACs of a 48 x 48 input", figures.gmacs, shifted, 5e-4 / figures.gmacs, figures.read_from))
    return lines


def part_rows(net: Net, part: Part) -> list[dict[str, Any]]:
    """Rows of one part of the net."""
    from stages.papers.ipt import cost

    parts = {
        "encoder": cost.encoder_layer(net).times(net.layers), "decoder": cost.decoder_layer(net).times(net.layers),
        "encoder layer": cost.encoder_layer(net), "decoder layer": cost.decoder_layer(net),
        "body with one query": cost.body(net) + cost.query(net), "query": cost.query(net), "head": cost.head(net),
        **{f"tail x{scale}": cost.tail(net, scale) for scale in (1, 2, 3, 4)},
    }  # fmt: skip
    if part.part not in parts:
        raise StageError(f"params/ipt/paper.yaml: audit.parts: {part.part} is none of {', '.join(parts)}")
    own = parts[part.part]
    lines = [row(f"12 + 12 layers: {part.part}", "parameters", part.parameters, own.params, 0.0, part.read_from)]
    if part.macs is not None:
        lines.append(row(f"12 + 12 layers: {part.part}", "MACs", part.macs, own.macs, 0.0, part.read_from))
    return lines


@stage(Config, paper="ipt", section="audit", files={"net": "ipt/{scale}:net"})
def main(cfg: Config) -> None:
    """Compute parameters and MACs of the official configurations to the digit; write runs/audit/ipt.csv.

    One MAC is one multiply-add of a convolution, a linear map or an attention product, in closed form and counted in a
    forward pass. Colour shifts are additions here and frozen convolutions officially: their share is added.
    """
    table = [line for name, one in cfg.params.nets.items() for line in net_rows(name, cfg.net, one)]
    table += [line for part in cfg.params.parts for line in part_rows(cfg.net, part)]
    found, macs = counted(cfg.net, ["sr2"])
    told = cfg.params.printed
    for quantity, published, computed in (("parameters (millions)", told.millions, found / 1e6),
                                          ("1e9 MACs of a 48 x 48 input", told.gmacs, (macs or 0) / 1e9)):  # fmt: skip
        table.append(row("12 + 12 layers, x2, as printed", quantity, published, computed, 0.02, told.read_from))
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
