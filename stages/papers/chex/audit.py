"""Sizes, multiply-adds and reductions of the paper's nets, computed without training and set beside the printed figures."""

import functools
from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage

CSV = "runs/audit/chex.csv"


@dataclass
class Size:
    """Parameters and MACs of a dense ResNet, known to the digit."""

    depth: int = MISSING
    parameters: int = MISSING
    macs: int = MISSING
    read_from: str = MISSING


@dataclass
class Reduction:
    """A printed pair: what is left of a dense ResNet's FLOPs, in units of 1e9, and by how many % that is less."""

    depth: int = MISSING
    left: float = MISSING
    unit: float = MISSING  # of left's last printed digit
    percent: int = MISSING
    read_from: str = MISSING


@dataclass
class Shortcuts:
    """Places of the shortcut convolutions in the order of all convolutions, from 1."""

    depth: int = MISSING
    places: list[int] = field(default_factory=list)
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/chex/paper.yaml."""

    sizes: list[Size] = field(help="dense nets: parameters and MACs to the digit")
    reductions: list[Reduction] = field(help="printed FLOPs left and their reductions")
    shortcuts: list[Shortcuts] = field(help="convolutions that prune_downsample masks, as the official code numbers them")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


@functools.cache  # several figures share a net
def dense(depth: int) -> tuple[int, int]:
    """(parameters, MACs at 224 x 224) of a ResNet; StageError if closed form and counted operations disagree."""
    import torch

    from stages.lib import macs, models

    with torch.device("meta"):  # shapes only
        record = models.construct("resnet", depth=depth).record()
    total, counted = macs.total(record), macs.count_record(record)
    if counted != total.macs:
        raise StageError(f"MACs of ResNet-{depth}: closed form {total.macs}, counted {counted}; the closed form is wrong")
    return total.params, total.macs


row = functools.partial(audit_row, "chex")


def size_rows(size: Size) -> list[dict[str, Any]]:
    """Parameters and MACs of one dense net."""
    found = zip(("parameters", "MACs"), (size.parameters, size.macs), dense(size.depth), strict=True)
    return [row(f"ResNet-{size.depth}, dense", name, told, own, 0.0, size.read_from) for name, told, own in found]


def reduction_row(figure: Reduction) -> dict[str, Any]:
    """The reduction that follows from the printed FLOPs; both were rounded, and that alone is tolerated."""
    whole = dense(figure.depth)[1] / 1e9
    computed = 100 * (1 - figure.left / whole)
    allowed = (0.5 + 100 * 0.5 * figure.unit / whole) / figure.percent
    name = f"ResNet-{figure.depth}, {figure.left:g} GFLOPs left"
    return row(name, "reduction of MACs (%)", figure.percent, computed, allowed, figure.read_from)


def shortcut_rows(figure: Shortcuts) -> list[dict[str, Any]]:
    """Where the shortcuts stand among the net's convolutions; StageError if there are more or fewer of them."""
    import torch
    from torch import nn

    from stages.lib import models
    from stages.papers.chex.prunable import prunable_layers

    with torch.device("meta"):
        net = models.construct("resnet", depth=figure.depth)
    convs = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    found = [convs.index(layer.producer) + 1 for layer in prunable_layers(net, downsample=True) if layer.consumer is None]
    if len(found) != len(figure.places):
        raise StageError(
            f"params/chex/paper.yaml: audit.shortcuts: ResNet-{figure.depth} has {len(found)}, got {len(figure.places)}"
        )
    name = f"ResNet-{figure.depth}, shortcut of stage "
    return [
        row(f"{name}{i}", "place among the convolutions", told, own, 0.0, figure.read_from)
        for i, (told, own) in enumerate(zip(figure.places, found, strict=True), start=1)
    ]


@stage(Config, paper="chex", section="audit")
def main(cfg: Config) -> None:
    """Compute sizes and MACs of the paper's nets, and the reductions that its printed FLOPs mean; write runs/audit/chex.csv.

    One MAC is one multiply-add of a convolution or linear map (the paper's FLOPs), computed in closed form and by
    counting the operations of a forward pass.
    """
    table = [line for size in cfg.params.sizes for line in size_rows(size)]
    table += [reduction_row(figure) for figure in cfg.params.reductions]
    table += [line for figure in cfg.params.shortcuts for line in shortcut_rows(figure)]
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
