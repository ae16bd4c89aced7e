"""Sizes of the spaces, supernets and gates, computed without training and set beside the known figures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.close.shape import GateShape, Shape

CSV = "runs/audit/close.csv"


@dataclass
class Known:
    """One figure known to the digit."""

    configuration: str = MISSING
    quantity: str = MISSING
    value: int = MISSING
    read_from: str = MISSING


@dataclass
class Choices:
    """Choices of a stage's depth, width, bottleneck ratio and groups in an NDS space, and its stages."""

    stages: int = field(help="stages")
    choices: list[int] = field(help="how many values each property of a stage has")


@dataclass
class AuditParams:
    """The section `audit` of params/close/paper.yaml."""

    image_channels: int = field(help="channels of the images")
    classes: int = field(help="classes")
    nds_resnet: Choices = field(default_factory=Choices)
    nds_resnext_a: Choices = field(default_factory=Choices)
    known: list[Known] = field(help="figures to check")


@dataclass
class Schedules:
    """What the audit reads of the NDS section."""

    resnet: list[int] = field(help="epochs of the levels of the ResNet space")
    resnext_a: list[int] = field(help="epochs of the levels of the ResNeXt-A space")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    net: Shape = field(default_factory=Shape)
    gate: GateShape = field(default_factory=GateShape)
    schedules: Schedules = field(default_factory=Schedules)
    params: AuditParams = field(default_factory=AuditParams)


def supernet_parameters(cfg: Config, blocks: int) -> int:
    """Parameters of NAS-Bench-201's supernet; StageError if closed form and the built net disagree."""
    import torch

    from stages.papers.close.shape import closed_form
    from stages.papers.close.supernet import Supernet

    with torch.device("meta"):  # shapes only
        net = Supernet(cfg.net, (cfg.params.image_channels, 32, 32), cfg.params.classes, blocks)
    built = sum(item.numel() for item in net.parameters())
    closed = closed_form(cfg.net, cfg.params.image_channels, cfg.params.classes, blocks)
    if built != closed:
        raise StageError(f"parameters of the supernet with {blocks} blocks: closed form {closed}, built {built}")
    return built


def gate_parameters(cfg: Config, blocks: int) -> int:
    """Parameters of the node-level gate; StageError if closed form and the built module disagree."""
    import torch

    from stages.papers.close.gates import NodeGate
    from stages.papers.close.shape import gate_closed_form
    from stages.papers.close.space import OPERATIONS

    with torch.device("meta"):
        built = sum(item.numel() for item in NodeGate(cfg.gate, blocks).parameters())
    closed = gate_closed_form(cfg.gate, len(OPERATIONS), blocks)
    if built != closed:
        raise StageError(f"parameters of the gate with {blocks} blocks: closed form {closed}, built {built}")
    return built


def darts_pairs() -> int:
    """Pairs of cells of the DARTS space: two different predecessors for each of 4 nodes, 7 operations on each edge."""
    import math

    from stages.papers.close.darts_net import CANDIDATES, INPUTS, PARALLEL

    nodes = range(INPUTS, INPUTS + 4)
    cell = math.prod(math.comb(node, PARALLEL) * len(CANDIDATES) ** PARALLEL for node in nodes)
    return cell**2


def nds_size(space: Choices) -> int:
    """Architectures of an NDS space."""
    import math

    return math.prod(space.choices) ** space.stages


def quantities(cfg: Config) -> dict[str, Callable[[], int]]:
    """How each quantity is computed."""
    from stages.papers.close import space

    counted = {f"supernet parameters, K={k}": lambda k=k: supernet_parameters(cfg, k) for k in range(1, 6)}
    counted |= {f"gate parameters, K={k}": lambda k=k: gate_parameters(cfg, k) for k in range(3, 6)}
    return counted | {
        "architectures": lambda: len(space.architectures()),
        "canonical classes": lambda: len(space.classes()),
        "algebraic normal forms": lambda: len({space.normal_form(item) for item in space.architectures()}),
        "architectures with a live convolution": lambda: sum(map(space.has_live_convolution, space.architectures())),
        "supernet parameters, vanilla": lambda: supernet_parameters(cfg, len(space.EDGES)),
        "supernet parameters, fixed part": lambda: supernet_parameters(cfg, 1) - _block(cfg),
        "parameters of a block, all cells": lambda: _block(cfg),
        "pairs of cells": darts_pairs,
        "architectures of ResNet": lambda: nds_size(cfg.params.nds_resnet),
        "architectures of ResNeXt-A": lambda: nds_size(cfg.params.nds_resnext_a),
        "blocks at the start, ResNet": lambda: cfg.schedules.resnet.count(1),
        "blocks at the end, ResNet": lambda: len(cfg.schedules.resnet),
    }


def _block(cfg: Config) -> int:
    return supernet_parameters(cfg, 2) - supernet_parameters(cfg, 1)


def rows(cfg: Config) -> list[dict[str, Any]]:
    """Rows in the columns of reports/audit.csv; integers, so nothing is tolerated."""
    ways, table = quantities(cfg), []
    for known in cfg.params.known:
        if known.quantity not in ways:
            raise StageError(
                f"params/close/paper.yaml: audit.known: quantity {known.quantity!r} is not one of {', '.join(ways)}"
            )
        computed = ways[known.quantity]()
        table.append(audit_row("close", known.configuration, known.quantity, known.value, computed, 0.0, known.read_from))
    return table


@stage(
    Config, paper="close", section="audit",
    files={"net": "close/{scale}:cifar10.net", "gate": "close/{scale}:cifar10.gate", "schedules": "close/{scale}:schedules"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Count architectures and parameters by closed form and by building; write runs/audit/close.csv."""
    table = rows(cfg)
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
