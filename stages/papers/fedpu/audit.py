"""Sizes that can be checked without training: parameters and bytes of the nets, arithmetic of the divisions, the loss."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, field, stage
from stages.papers.fedpu.settings import Federation, Net

CSV = "runs/audit/fedpu.csv"
row = partial(audit_row, "fedpu")


@dataclass
class NetFigures:
    """A net, its parameters, and bytes of the state that is sent (with running statistics)."""

    net: Net = field(default_factory=Net)
    input: list[int] = field(default_factory=list)
    parameters: int = MISSING
    bytes: int = MISSING
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/fedpu/paper.yaml."""

    classes: int = field(help="classes of both data sets")
    nets: dict[str, NetFigures] = field(default_factory=dict, help="nets by name")
    positive_sum: int = field(help="sum of the positive classes of MNIST's ten clients")
    pool: list[int] = field(default_factory=list, help="train, validation and test of FedMatch's CIFAR-10")
    labelled: int = field(help="labelled images of a FedMatch client")
    labelled_total: int = field(help="of all clients")
    unlabelled: int = field(help="unlabelled images of a FedMatch client")
    unlabelled_total: int = field(help="of all clients")
    major: int = field(help="unlabelled images of a client's commonest class where shares are bimodal")
    bounds: dict[str, float] = field(default_factory=dict, help="-log(eps), the largest negative loss, of eps and eps_shipped")


@dataclass
class Config:
    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)
    mnist: Federation = field(default_factory=Federation)
    cifar10: Federation = field(default_factory=Federation)


def net_rows(name: str, figures: NetFigures, classes: int) -> list[dict[str, Any]]:
    """Parameters and bytes of one net, counted on tensors without memory."""
    from stages.lib import macs
    from stages.papers.fedpu import nets

    net = nets.meta(nets.record(figures.net, list(figures.input), classes))
    own = [("parameters", figures.parameters, macs.parameters(net)), ("bytes of a state", figures.bytes, nets.state_bytes(net))]
    return [row(name, what, told, found, 0.0, figures.read_from) for what, told, found in own]


def division_rows(cfg: Config) -> list[dict[str, Any]]:
    """MNIST's and FedMatch's divisions, carried out on balanced labels of the true number."""
    import numpy

    from stages.papers.fedpu import fedmatch, partition

    figures, classes = cfg.params, cfg.params.classes
    federation, scenes = cfg.cifar10, cfg.cifar10.scenes
    pool = sum(federation.pool)
    y = numpy.arange(federation.pool[0]) % classes
    said = "specification, of the official code"
    named = zip(("train", "validation", "test"), figures.pool, federation.pool, strict=True)
    found = [row("FedMatch, CIFAR-10", f"images in {name}", told, own, 0.0, said) for name, told, own in named]
    found.append(row("FedMatch, CIFAR-10", "images in all", 60000, pool, 0.0, said))
    for name, scene in scenes.items():
        shares = fedmatch.fedmatch(y, scene, federation.clients, classes, 0)
        marked = [int(one.labelled.sum()) for one in shares]
        rest = [len(one.images) - count for one, count in zip(shares, marked, strict=True)]
        own = (("labelled images, every client", figures.labelled, marked[0] if len(set(marked)) == 1 else -1),
               ("unlabelled images, every client", figures.unlabelled, rest[0] if len(set(rest)) == 1 else -1),
               ("labelled images", figures.labelled_total, sum(marked)),
               ("unlabelled images", figures.unlabelled_total, sum(rest)),
               ("different images", figures.labelled_total + figures.unlabelled_total,
                len(numpy.unique(numpy.concatenate([one.images for one in shares])))))  # fmt: skip
        found += [row(f"FedMatch, CIFAR-10, {name}", what, told, value, 0.0, said) for what, told, value in own]
    major = max(fedmatch.unlabelled_counts(0, figures.unlabelled, "bimodal", classes))
    found.append(row("FedMatch, CIFAR-10, noniid", "unlabelled images of the commonest class", figures.major, major, 0.0, said))
    y = numpy.arange(60000) % classes
    for name, scene in cfg.mnist.scenes.items():
        shares = partition.shards(y, scene, cfg.mnist.clients, classes, 0)
        count = sum(len(one.positives) for one in shares)
        found.append(row(f"MNIST, {name}", "positive classes of all clients", figures.positive_sum, count, 0.0, said))
        images = len(numpy.unique(numpy.concatenate([one.images for one in shares])))
        found.append(row(f"MNIST, {name}", "different images", 60000, images, 0.0, said))
    return found


def bound_rows(cfg: Config) -> list[dict[str, Any]]:
    """The largest negative loss, at p = 1."""
    import torch

    from stages.papers.fedpu.risk import negative_loss

    return [row("negative loss at p = 1", name, told, float(negative_loss(torch.ones((), dtype=torch.float64),
                getattr(cfg.mnist.risk, name))), 0.005, "specification, 3.2: rounded to a tenth")
            for name, told in cfg.params.bounds.items()]  # fmt: skip


@stage(Config, paper="fedpu", section="audit", files={"mnist": "fedpu/{scale}:mnist", "cifar10": "fedpu/{scale}:cifar10"})
def main(cfg: Config) -> None:
    """Compute nets, divisions and bounds of the paper-scale configuration; write runs/audit/fedpu.csv."""
    table = [line for name, one in cfg.params.nets.items() for line in net_rows(name, one, cfg.params.classes)]
    write_audit(CSV, table + division_rows(cfg) + bound_rows(cfg))


if __name__ == "__main__":
    main()
