"""Sizes of the printed genotypes, of the search space and of the schedule, computed without training."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, field, stage
from stages.papers.eoinas.settings import NetParams, SearchParams, SpaceParams

CSV = "runs/audit/eoinas.csv"


@dataclass
class Genotype:
    """A printed genotype's parameters and MACs, known to the digit."""

    name: str = MISSING
    cifar: list[int] = field(default_factory=list)
    imagenet: list[int] = field(default_factory=list)
    read_from: str = MISSING


@dataclass
class Rounded:
    """Parameters of a genotype's CIFAR net as a paper prints them, in millions with one decimal."""

    name: str = MISSING
    millions: float = MISSING
    read_from: str = MISSING


@dataclass
class Figure:
    """A figure of the search space or of the schedule: a count, or a number rounded to a last digit of `unit`."""

    quantity: str = MISSING
    count: int | None = None
    value: float = 0.0
    unit: float = 0.0
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/eoinas/paper.yaml."""

    genotypes: list[Genotype] = field(help="printed genotypes: parameters and MACs for both data sets")
    rounded: list[Rounded] = field(help="parameters as papers print them")
    figures: list[Figure] = field(help="numbers of edges, cells, draws; the last temperature")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    space: SpaceParams = field(default_factory=SpaceParams)
    search: SearchParams = field(default_factory=SearchParams)
    cifar_net: NetParams = field(default_factory=NetParams)
    imagenet_net: NetParams = field(default_factory=NetParams)
    params: AuditParams = field(default_factory=AuditParams)


row = partial(audit_row, "eoinas")


def cost(name: str, net: NetParams, image: int, classes: int) -> tuple[int, int]:
    """(parameters, MACs) of a printed genotype's net without its auxiliary head."""
    from stages.lib import macs
    from stages.lib.darts import darts_record, published

    total = macs.total(darts_record(published(name), net.cells, net.channels, [3, image, image], classes, net.stem))
    return total.params, total.macs


def genotype_rows(genotype: Genotype, cfg: Config) -> list[dict[str, Any]]:
    """Parameters and MACs for both data sets."""
    found = []
    for title, net, image, classes, told in (
        ("CIFAR-10", cfg.cifar_net, 32, 10, genotype.cifar),
        ("ImageNet", cfg.imagenet_net, 224, 1000, genotype.imagenet),
    ):
        own = cost(genotype.name, net, image, classes)
        for quantity, published, computed in zip(("parameters", "MACs"), told, own, strict=True):
            found.append(row(f"{genotype.name}, {title}", quantity, published, computed, 0.0, genotype.read_from))
    return found


def cells_of(nodes: int, operations: int) -> int:
    """Cells with two different predecessors a node and `operations` choices on each edge: prod_k C(k, 2) operations^2."""
    return math.prod(math.comb(k, 2) * operations**2 for k in range(2, nodes + 2))


def computed(cfg: Config) -> dict[str, float]:
    """Every figure that AuditParams.figures may name."""
    from stages.papers.eoinas.searching import temperature
    from stages.papers.eoinas.supernet import sources

    operations = len([name for name in cfg.space.operations if name != "none"])
    one = cells_of(cfg.space.nodes, operations)
    # 25,000 pictures train weights; an operation of eight gets an eighth of the draws of the 20 epochs between drops.
    steps = 25000 // cfg.search.batch
    return {
        "edges of a cell": len(sources(cfg.space.nodes)),
        "normal cells in the space": one,
        "pairs of cells in the space": one**2,
        "drops": len(cfg.search.prune),
        "temperature in the last epoch": temperature(cfg.search, cfg.search.epochs - 1),
        "mean draws of an operation before the first drop": (cfg.search.prune[0] - cfg.search.warmup)
        * steps
        / len(cfg.space.operations),
    }


@stage(
    Config, paper="eoinas", section="audit",
    files={
        "space": "eoinas/{scale}:cifar10.space", "search": "eoinas/{scale}:cifar10.search",
        "cifar_net": "eoinas/{scale}:cifar10.net", "imagenet_net": "eoinas/{scale}:imagenet.net",
    },
)  # fmt: skip
def main(cfg: Config) -> None:
    """Compute sizes and multiply-adds of the printed genotypes and of the search; write runs/audit/eoinas.csv."""
    table = [line for genotype in cfg.params.genotypes for line in genotype_rows(genotype, cfg)]
    for printed in cfg.params.rounded:
        own, told = cost(printed.name, cfg.cifar_net, 32, 10)[0] / 1e6, printed.millions
        table.append(row(f"{printed.name}, CIFAR-10", "parameters (millions)", told, own, 0.05 / told, printed.read_from))
    own_figures = computed(cfg)
    for figure in cfg.params.figures:
        told, allowed = (figure.value, figure.unit / 2 / figure.value) if figure.count is None else (figure.count, 0.0)
        table.append(row("search", figure.quantity, told, own_figures[figure.quantity], allowed, figure.read_from))
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
