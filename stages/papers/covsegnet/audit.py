"""Stage: sizes and multiply-adds of the nets, which need no training, set beside the stated ones."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, field, stage
from stages.papers.covsegnet.settings import Net

CSV = "runs/audit/covsegnet.csv"


@dataclass
class Stated:
    """A net with its stated size and cost."""

    net: Net = field(default_factory=Net)
    nd: int = field(help="dimensions, 2 or 3")
    input: list[int] = field(help="channels and spatial size of one item")
    parameters: int = MISSING
    macs: int = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/covsegnet/paper.yaml."""

    nets: dict[str, Stated] = field(default_factory=dict, help="nets by name")
    read_from: str = MISSING


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


row = partial(audit_row, "covsegnet")


def rows(params: AuditParams) -> list[dict[str, Any]]:
    """Parameters and multiply-adds of every net, counted from what really runs, on the meta device."""
    import torch

    from stages.lib import macs
    from stages.papers.covsegnet import nets

    found = []
    for name, stated in params.nets.items():
        with torch.device("meta"):
            net = nets.build(nets.record(stated.net, stated.nd, stated.input[0]))
            cost = macs.count(net, torch.empty(1, *stated.input))
        found.append(row(name, "parameters", stated.parameters, macs.parameters(net), 0, params.read_from))
        found.append(row(name, "multiply-adds", stated.macs, cost, 0, params.read_from))
    return found


@stage(Config, paper="covsegnet", section="audit")
def main(cfg: Config) -> None:
    """Write runs/audit/covsegnet.csv."""
    write_audit(CSV, rows(cfg.params))


if __name__ == "__main__":
    main()
