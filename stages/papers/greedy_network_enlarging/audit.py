"""Parameters, MACs and their division over stages of the released nets and their baselines, computed without training."""

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage

if TYPE_CHECKING:
    from stages.papers.greedy_network_enlarging.space import Space

CSV = "runs/audit/greedy_network_enlarging.csv"
SOURCE = "specification [computed]"
RELEASE = "configurations: MindSpore release; figures: specification [computed]"
HALF_UNIT = 0.005  # of a figure in millions with two decimals


@dataclass
class Ghost:
    """A GhostNet, its size to the digit and the MACs of its stages in millions."""

    name: str = MISSING
    generator: str = MISSING
    depths: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    resolution: int = MISSING
    parameters: int = MISSING
    macs: int = MISSING
    stages: list[float] = field(default_factory=list)


@dataclass
class Compound:
    """An EfficientNet by its factors; `ends` are the MACs of stem, last convolution and classifier in millions."""

    name: str = MISSING
    width: float = MISSING
    depth: float = MISSING
    resolution: int = MISSING
    parameters: int = MISSING
    macs: int = MISSING
    stages: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


@dataclass
class Residual:
    """A ResNet's MACs of stem and stages in millions."""

    depth: int = MISSING
    stages: list[float] = field(default_factory=list)


@dataclass
class AuditParams:
    """The section `audit` of params/greedy_network_enlarging/paper.yaml."""

    ghostnets: list[Ghost] = field(help="GhostNets: parameters, MACs, MACs of the stages")
    efficientnets: list[Compound] = field(help="EfficientNets: the same")
    resnets: list[Residual] = field(help="ResNets: MACs of the stages")
    last_two: dict[str, float] = field(help="% of the MACs of all stages in the last two, by the name of a GhostNet")
    blocks: dict[str, int] = field(help="blocks in all, by the name of a GhostNet")
    nested: list[str] = field(help="GhostNets each of which contains the one before")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


row = partial(audit_row, "greedy_network_enlarging")


def million_row(configuration: str, quantity: str, published: float, macs: int, read_from: str) -> dict:
    """A row in millions of MACs, where only rounding is tolerated."""
    return row(configuration, f"MACs (M), {quantity}", published, macs / 1e6, HALF_UNIT * 1.000001 / published, read_from)


def ghost_space(net: Ghost) -> "Space":
    """The space whose base is that GhostNet."""
    from stages.papers.greedy_network_enlarging.settings import Base
    from stages.papers.greedy_network_enlarging.space import space_of

    options = {"generator": net.generator, "dropout": 0.0, "drop_path": 0.0}
    return space_of(Base("ghostnet", net.depths, net.widths, net.resolution, options), 3, 1000)


def compound_space(net: Compound) -> "Space":
    """The space whose base is the EfficientNet of these factors, its stem scaled like the groups."""
    from stages.papers.greedy_network_enlarging import efficientnet
    from stages.papers.greedy_network_enlarging.nets import make_divisible
    from stages.papers.greedy_network_enlarging.settings import Base
    from stages.papers.greedy_network_enlarging.space import space_of

    widths = [make_divisible(net.width * w, efficientnet.DIVISOR) for w in efficientnet.BASE_WIDTHS]
    stem = make_divisible(net.width * 2 * efficientnet.BASE_WIDTHS[0], efficientnet.DIVISOR)
    depths = [math.ceil(net.depth * d) for d in efficientnet.BASE_DEPTHS]
    options = {"stem": stem, "dropout": 0.0, "drop_path": 0.0}
    return space_of(Base("efficientnet", depths, widths, net.resolution, options), 3, 1000)


def size_rows(net: Ghost | Compound, space: "Space") -> list[dict[str, Any]]:
    """Parameters and MACs to the digit, closed form and counted, and the MACs of the stages."""
    import torch

    from stages.lib import macs

    record, read_from = space.record(space.base), RELEASE if net.name.startswith(("S-", "example")) else SOURCE
    counted, closed = macs.count_record(record), space.macs(space.base)
    with torch.device("meta"):  # shapes only
        parameters = macs.parameters(space.build(space.base))
    if counted != closed or parameters != space.parameters(space.base):
        raise StageError(f"{net.name}: closed form {closed} MACs, counted {counted}; the closed form is wrong")
    found = [row(net.name, "parameters", net.parameters, parameters, 0.0, read_from)]
    found.append(row(net.name, "MACs", net.macs, counted, 0.0, read_from))
    groups = space.group_macs(space.base)
    for stage_number, told in enumerate(net.stages):
        found.append(million_row(net.name, f"stage {stage_number}", told, groups[str(stage_number)], SOURCE))
    return found


def end_rows(net: Compound, space: "Space") -> list[dict[str, Any]]:
    """MACs of an EfficientNet's stem, last convolution and classifier."""
    layers = {layer.name: layer.macs for layer in space.layers(space.base)}
    last = f"features.{space.base.stages + 1}.0"
    places = {"stem": "features.0.0", "last convolution": last, "classifier": "classifier.1"}
    return [
        million_row(net.name, what, told, layers[name], SOURCE)
        for told, (what, name) in zip(net.ends, places.items(), strict=False)
    ]


def resnet_rows(net: Residual) -> list[dict[str, Any]]:
    """MACs of a ResNet's stem and stages: how differently nets of similar accuracy divide them."""
    import torch

    from stages.lib import macs, models

    with torch.device("meta"):
        record = models.construct("resnet", depth=net.depth).record()
    costs = macs.closed_form(record)
    stages = ("conv1", "layer1.", "layer2.", "layer3.", "layer4.")
    found = [sum(cost.macs for cost in costs if cost.name.startswith(stage)) for stage in stages]
    rows = zip(stages, net.stages, found, strict=True)
    return [million_row(f"ResNet-{net.depth}", stage.rstrip("."), told, own, SOURCE) for stage, told, own in rows]


def shape_rows(params: AuditParams) -> list[dict[str, Any]]:
    """Shares of the last two stages, numbers of blocks, and whether the released nets contain one another."""
    spaces = {net.name: ghost_space(net) for net in params.ghostnets}
    for name in [*params.last_two, *params.blocks, *params.nested]:
        if name not in spaces:
            raise StageError(f"params/greedy_network_enlarging/paper.yaml: audit: no GhostNet is called {name!r}")
    found = []
    for name, told in params.last_two.items():
        *rest, fifth, sixth = list(spaces[name].group_macs(spaces[name].base).values())[1:-1]
        share = 100 * (fifth + sixth) / (sum(rest) + fifth + sixth)
        found.append(row(name, "MACs of stages 4 and 5 (% of all stages)", told, share, 0.5 / told, SOURCE))
    for name, told in params.blocks.items():
        found.append(row(name, "blocks", told, sum(spaces[name].base.depths), 0.0, RELEASE))
    for small, large in zip(params.nested, params.nested[1:]):
        nested = spaces[large].base.contains(spaces[small].base)
        found.append(row(large, f"contains {small} (1: yes)", 1, int(nested), 0.0, RELEASE))
    return found


@stage(Config, paper="greedy_network_enlarging", section="audit")
def main(cfg: Config) -> None:
    """Compute sizes, MACs and their division over the stages; write runs/audit/greedy_network_enlarging.csv.

    One MAC is one multiply-add of a convolution or linear map, SE's included, in closed form and by counting the
    operations of a forward pass.
    """
    table = [line for net in cfg.params.ghostnets for line in size_rows(net, ghost_space(net))]
    for net in cfg.params.efficientnets:
        space = compound_space(net)
        table += size_rows(net, space) + end_rows(net, space)
    table += [line for net in cfg.params.resnets for line in resnet_rows(net)]
    table += shape_rows(cfg.params)
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
