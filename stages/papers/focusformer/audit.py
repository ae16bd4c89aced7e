"""Sizes of the paper's spaces, supernets and published sub-networks, computed without training and set beside the figures."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.focusformer.settings import Space, Supernet

CSV = "runs/audit/focusformer.csv"


@dataclass
class SpaceFigures:
    """One search space: its size, the tensors of its supernet, and the range of its architectures' parameters."""

    space: Space = field(default_factory=Space)
    supernet: Supernet = field(default_factory=Supernet)
    size: int = MISSING
    supernet_parameters: int = MISSING
    least_parameters: int = MISSING
    most_parameters: int = MISSING
    read_from: str = MISSING


@dataclass
class SubnetFigures:
    """A published architecture, its parameters, and its MACs with and without relative positions."""

    embed: int = MISSING
    ratios: list[float] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    parameters: int = MISSING
    macs: int = MISSING
    macs_plain: int = MISSING
    read_from: str = MISSING


@dataclass
class Printed:
    """Rounded figures: millions of parameters and 1e9 MACs, of the published architecture of that name."""

    subnet: str = MISSING
    millions: float = MISSING
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/focusformer/paper.yaml."""

    image: int = field(help="side of the images")
    classes: int = field(help="classes of the data set")
    spaces: dict[str, SpaceFigures] = field(default_factory=dict, help="search spaces by name")
    subnets: dict[str, SubnetFigures] = field(default_factory=dict, help="published architectures by name")
    printed: list[Printed] = field(default_factory=list, help="printed sizes of those architectures")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


row = partial(audit_row, "focusformer")


def space_rows(name: str, figures: SpaceFigures, image: int, classes: int) -> list[dict[str, Any]]:
    """Size of a space and parameters of its supernet and of its smallest and largest architecture."""
    from stages.papers.focusformer import cost
    from stages.papers.focusformer import space as spaces

    canvas = cost.canvas(figures.supernet, (3, image, image), classes)
    found = [
        ("architectures", figures.size, spaces.size(figures.space)),
        ("parameters of the supernet", figures.supernet_parameters, supernet_parameters(figures.supernet, image, classes)),
        ("least parameters", figures.least_parameters, cost.parameters(spaces.smallest(figures.space), canvas)),
        ("most parameters", figures.most_parameters, cost.parameters(spaces.largest(figures.space), canvas)),
    ]
    return [row(f"AutoFormer-{name}, space", what, told, own, 0.0, figures.read_from) for what, told, own in found]


def supernet_parameters(shape: Supernet, image: int, classes: int) -> int:
    """Numbers in the supernet's tensors; StageError if they are not those of the closed form."""
    import torch

    from stages.lib import macs
    from stages.papers.focusformer import cost
    from stages.papers.focusformer.supernet import Supernet as Net

    canvas = cost.canvas(shape, (3, image, image), classes)
    with torch.device("meta"):  # shapes only
        counted = macs.parameters(Net(shape, canvas))
    closed = cost.parameters(cost.whole(shape), canvas)
    if counted != closed:
        raise StageError(f"parameters of a supernet: closed form {closed}, counted {counted}; the closed form is wrong")
    return counted


def subnet_rows(name: str, figures: SubnetFigures, image: int, classes: int) -> list[dict[str, Any]]:
    """Parameters and MACs of a published architecture; StageError if the counted MACs are not those of the closed form."""
    from stages.lib import macs
    from stages.papers.focusformer import cost
    from stages.papers.focusformer.space import Architecture
    from stages.papers.focusformer.transformer import record_of

    canvas = cost.Canvas(image, 3, classes, 16)
    found = Architecture(figures.embed, tuple(figures.ratios), tuple(figures.heads))
    own, counted = cost.macs(found, canvas), macs.count_record(record_of(found, canvas))
    if counted != own:
        raise StageError(f"MACs of AutoFormer-{name}: closed form {own}, counted {counted}; the closed form is wrong")
    told = [
        ("parameters", figures.parameters, cost.parameters(found, canvas)),
        ("MACs", figures.macs, own),
        ("MACs without relative positions", figures.macs_plain, cost.macs(found, canvas, relative=False)),
    ]
    return [row(f"AutoFormer-{name}, published net", what, one, two, 0.0, figures.read_from) for what, one, two in told]


def printed_row(figure: Printed, subnets: dict[str, SubnetFigures], image: int, classes: int) -> dict[str, Any]:
    """A printed size; a unit of its last digit is tolerated, for some were cut and not rounded."""
    from stages.papers.focusformer import cost
    from stages.papers.focusformer.space import Architecture

    if figure.subnet not in subnets:
        raise StageError(f"params/focusformer/paper.yaml: audit.printed: {figure.subnet} is none of {', '.join(subnets)}")
    own = subnets[figure.subnet]
    found = Architecture(own.embed, tuple(own.ratios), tuple(own.heads))
    computed = cost.parameters(found, cost.Canvas(image, 3, classes, 16)) / 1e6
    name = f"AutoFormer-{figure.subnet}, published net"
    return row(name, "parameters (millions)", figure.millions, computed, 0.1 / figure.millions, figure.read_from)


@stage(Config, paper="focusformer", section="audit")
def main(cfg: Config) -> None:
    """Compute sizes of AutoFormer's spaces, supernets and published nets to the digit; write runs/audit/focusformer.csv.

    One MAC is one multiply-add of a linear map or an attention product, in closed form and counted in a forward pass.
    """
    image, classes = cfg.params.image, cfg.params.classes
    table = [line for name, one in cfg.params.spaces.items() for line in space_rows(name, one, image, classes)]
    table += [line for name, one in cfg.params.subnets.items() for line in subnet_rows(name, one, image, classes)]
    table += [printed_row(one, cfg.params.subnets, image, classes) for one in cfg.params.printed]
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
