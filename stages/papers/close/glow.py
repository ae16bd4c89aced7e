"""GLOW blocks (global operation weights): full sets of a cell's operation weights that edges share."""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.papers.close.space import CONVOLUTIONS, EDGES, NODES, NONE, POOL, SKIP, Architecture, live_edges

EPS = 1e-5  # torch's own in batch normalisation
SMALL = 64  # places of a map on which pooling is a matrix product


def normalised(x: Tensor) -> Tensor:
    """Batch normalisation without scale and shift, by the batch's own statistics in every mode.

    Running statistics would mix sub-networks; scores use batch statistics too.
    """
    return functional.batch_norm(x, None, None, training=True, eps=EPS)


def pooled(x: Tensor) -> Tensor:
    """3x3 mean, padding not counted.

    On small maps one matrix product: torch's own pooling, and more so its backward pass, takes longer than a convolution.
    """
    places = x.shape[2] * x.shape[3]
    if places > SMALL:
        return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    matrix = _pooling_matrix(x.shape[2], x.shape[3]).to(x)
    return (x.reshape(-1, places) @ matrix).view(x.shape)


@functools.cache
def _pooling_matrix(height: int, width: int) -> Tensor:
    """[places, places]: column j holds the weights of output j."""
    one_hot = torch.eye(height * width, device="cpu").view(-1, 1, height, width)
    return functional.avg_pool2d(one_hot, 3, stride=1, padding=1, count_include_pad=False).flatten(1)


class GlowConv(nn.Module):
    """One candidate ReLU-convolution-BN of a cell, `blocks` times; a block's weight is a parameter of its own."""

    def __init__(self, channels: int, kernel: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ParameterList(nn.Parameter(torch.empty(channels, channels, kernel, kernel)) for _ in range(blocks))
        for weight in self.blocks:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # nn.Conv2d's own

    def forward(self, x: Tensor, block: int) -> Tensor:
        """Output [N, C, H, W] of one block."""
        weight = self.blocks[block]
        return normalised(functional.conv2d(functional.relu(x), weight, padding=weight.shape[-1] // 2))

    def mixed(self, x: Tensor, gate: Tensor) -> Tensor:
        """sum_i gate[i] * output of block i, over the blocks [0, len(gate)).

        The gate is one-hot in value; every block is computed so that the gradient reaches all of its entries.
        """
        if len(gate) == 1:
            return self(x, 0) * gate[0]
        active = list(self.blocks)[: len(gate)]
        stacked = functional.conv2d(functional.relu(x), torch.cat(active), padding=active[0].shape[-1] // 2)
        count, _, height, width = stacked.shape
        each = normalised(stacked).view(count, len(gate), -1, height, width)
        return torch.einsum("nlchw,l->nchw", each, gate)


class GlowCell(nn.Module):
    """A cell of NAS-Bench-201 whose edges take their convolutions from shared blocks.

    A node is the sum of its incoming edges; only edges between input and output are computed.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.channels = channels
        self.convs = nn.ModuleDict({str(op): GlowConv(channels, kernel, blocks) for op, kernel in CONVOLUTIONS.items()})

    def forward(self, x: Tensor, architecture: Architecture, gates: Tensor | tuple[int, ...]) -> Tensor:
        """Output [N, C, H, W]. `gates`: a block for each edge, or one-hot gates [6, L] that want a gradient."""
        nodes: list[Tensor | None] = [x] + [None] * (NODES - 1)
        for edge in live_edges(architecture):
            source, target = EDGES[edge]
            out = self.edge(nodes[source], architecture[edge], gates[edge])
            nodes[target] = out if nodes[target] is None else nodes[target] + out
        return torch.zeros_like(x) if nodes[-1] is None else nodes[-1]

    def edge(self, x: Tensor, operation: int, gate: Tensor | int) -> Tensor:
        """One operation. Those without weights ignore the gate: all its entries would get the same gradient, which
        softmax turns into zero.
        """
        if operation == NONE:
            return torch.zeros_like(x)
        if operation == SKIP:
            return x
        if operation == POOL:
            return pooled(x)
        conv = self.convs[str(operation)]
        return conv(x, gate) if isinstance(gate, int) else conv.mixed(x, gate)
