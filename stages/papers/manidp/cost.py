"""MACs of single images under their masks: what the active channels cost, gates counted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.lib import macs
from stages.papers.manidp.gated import GatedNet, Trace

KERNEL = 9  # positions of a 3x3 filter


@dataclass(frozen=True)
class CostModel:
    """MACs(image) = fixed + gates + sum over blocks of 9 h w (c_in k1 + k1 k2), with k the numbers of masks above 0.

    `inputs` [blocks] are the c_in, `positions` [blocks] the h w of the blocks' maps, `dense` the ungated net's MACs.
    """

    inputs: Tensor
    positions: Tensor
    fixed: int
    gates: int
    dense: int

    def per_image(self, trace: Trace) -> Tensor:
        """int64 [N] MACs; a channel whose saliency is exactly 0 costs nothing either."""
        counts = torch.stack([(mask > 0).sum(1) for mask in trace.masks], 1)
        return self.of_counts(counts, gates=True)

    def of_counts(self, counts: Tensor, gates: bool) -> Tensor:
        """int64 [N] MACs from the numbers of active channels [N, 2 blocks]; `gates` says whether gates run."""
        inner, outer = counts[:, 0::2].cpu(), counts[:, 1::2].cpu()
        convolutions = KERNEL * self.positions * inner * (self.inputs + outer)
        return self.fixed + (self.gates if gates else 0) + convolutions.sum(1)


def cost_model(net: GatedNet) -> CostModel:
    """The cost of images of the shape that the net's record names."""
    record = net.record()
    layers = {item.name: item for item in GatedNet.layers(record)}
    gates = sum(item.macs for name, item in layers.items() if name.startswith("gates."))
    first = [item for name, item in layers.items() if name.startswith("net.layer") and name.endswith("conv1")]
    second = [item for name, item in layers.items() if name.startswith("net.layer") and name.endswith("conv2")]
    dense = macs.total(record["net"]).macs
    fixed = dense - sum(item.macs for item in (*first, *second))
    return CostModel(
        torch.tensor([item.inputs for item in first]), torch.tensor([item.positions for item in first]), fixed, gates, dense
    )
