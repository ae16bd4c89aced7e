"""Multiply-adds and parameters, twice: a closed form from the architecture record, and a count of what really runs.

1 MAC = one multiply-add of a convolution, a linear map or an attention product; everything else counts 0. All figures
are for one sample.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stages.lib.models import build, family


@dataclass(frozen=True)
class LayerCost:
    """MACs of one sample and learnable parameters of one layer, by its module path."""

    name: str
    macs: int
    params: int


def closed_form(record: dict) -> list[LayerCost]:
    """Cost of every parametric layer, computed from the record alone; sum the fields for the net's totals."""
    return [LayerCost(layer.name, layer.macs, layer.params) for layer in family(record).layers(record)]


def total(record: dict) -> LayerCost:
    """The whole net's cost by the closed form."""
    costs = closed_form(record)
    return LayerCost(record["kind"], sum(c.macs for c in costs), sum(c.params for c in costs))


@torch.no_grad()
def count(model: nn.Module, x: Tensor) -> int:
    """MACs of one sample of the batch `x` [N,...], counted at PyTorch's dispatcher.

    PyTorch counts two operations for each multiply-add, hence the division. Independent of the closed form, and works
    for any net, also with tensors on the meta device.
    """
    training = model.training
    with FlopCounterMode(display=False) as counter:
        model.eval()(x)
    model.train(training)
    return counter.get_total_flops() // 2 // len(x)


def count_record(record: dict) -> int:
    """`count` of the net of `record` on the meta device: shapes only, no memory and no arithmetic."""
    with torch.device("meta"):
        return count(build(record), torch.empty(1, *record["input"]))


def parameters(model: nn.Module) -> int:
    """Learnable numbers of a net (running statistics of normalisations are not among them)."""
    return sum(p.numel() for p in model.parameters())
