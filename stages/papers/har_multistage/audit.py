"""Parameters and MACs of the extractors and heads, computed without training and set beside the specification's figures."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, stage
from stages.lib.stage import field as parameter
from stages.papers.har_multistage.settings import Net

CSV = "runs/audit/har_multistage.csv"


@dataclass
class Figures:
    """One data set's extractor for one kind of input, and the heads over it."""

    name: str = MISSING
    shape: list[int] = field(default_factory=list)
    classes: int = MISSING
    parameters: int = MISSING
    macs: int = MISSING
    single_head: int = MISSING
    fusion_head: int = MISSING


@dataclass
class UciHar:
    """The publisher's numbers of windows: of train, of test, of both, and by class."""

    train: int = MISSING
    test: int = MISSING
    whole: int = MISSING
    classes: list[int] = field(default_factory=list)


@dataclass
class AuditParams:
    """The section `audit` of params/har_multistage/paper.yaml."""

    net: Net = field(default_factory=Net)
    branches: int = parameter(help="transformations of the merged net")
    sets: list[Figures] = field(default_factory=list)
    read_from: str = parameter(help="where the figures were read")
    windows: UciHar = field(default_factory=UciHar)


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = parameter(default="paper", help="params file of the full settings")
    params: AuditParams = field(default_factory=AuditParams)


row = partial(audit_row, "har_multistage")


def extractor_rows(figures: Figures, params: AuditParams) -> list[dict[str, Any]]:
    """Size of an extractor and its heads; StageError if the counted net is not that of the closed form."""
    import torch

    from stages.lib import macs
    from stages.papers.har_multistage import cost
    from stages.papers.har_multistage.extractor import Extractor

    shape = tuple(figures.shape)
    with torch.device("meta"):  # shapes only
        net = Extractor(shape, params.net)
        counted = macs.parameters(net), macs.count(net, torch.empty(1, *shape))
    closed = cost.extractor_cost(shape, params.net)
    if counted != closed:
        raise StageError(f"{figures.name} {shape}: closed form {closed}, counted {counted}; the closed form is wrong")
    found = [
        ("parameters of the extractor", figures.parameters, closed[0]),
        ("MACs of the extractor", figures.macs, closed[1]),
        ("parameters of a single head", figures.single_head, cost.single_head(params.net, figures.classes)),
        ("parameters of the fusion head", figures.fusion_head, cost.fusion_head(params.net, params.branches, figures.classes)),
    ]
    name = f"{figures.name}, input {' x '.join(map(str, shape))}"
    return [row(name, what, told, own, 0.0, params.read_from) for what, told, own in found]


def window_rows(figures: UciHar) -> list[dict[str, Any]]:
    """That the published numbers of UCI HAR's windows add up."""
    name, where = "UCI HAR, windows", "publisher's description [read; by class recalled]"
    return [
        row(name, "train and test", figures.whole, figures.train + figures.test, 0.0, where),
        row(name, "sum of classes", figures.whole, sum(figures.classes), 0.0, where),
    ]


@stage(Config, paper="har_multistage", section="audit")
def main(cfg: Config) -> None:
    """Compute sizes of extractors and heads to the digit; write runs/audit/har_multistage.csv.

    One MAC is one multiply-add of a convolution or a linear map, in closed form and counted in a forward pass.
    """
    table = [line for one in cfg.params.sets for line in extractor_rows(one, cfg.params)]
    write_audit(CSV, [*table, *window_rows(cfg.params.windows)])


if __name__ == "__main__":
    main()
