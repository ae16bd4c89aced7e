"""The graph encoder in front of the gate: information flows along a cell's edges (GATES, Ning et al., ECCV 2020)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from stages.papers.close.shape import EncoderShape


class FlowLayer(nn.Module):
    """y_t = (1 / parallel) sum over edges f -> t of sigmoid(A e(op)) * (x_f W), and + x_t W for the input nodes."""

    def __init__(self, inputs: int, outputs: int, op_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-1 / math.sqrt(outputs), 1 / math.sqrt(outputs)))
        self.attention = nn.Linear(op_dim, outputs)

    def forward(self, x: Tensor, sources: Tensor, targets: Tensor, ops: Tensor, sources_kept: int, parallel: int) -> Tensor:
        """[nodes, outputs] of x [nodes, inputs]; `ops` [edges, op_dim] are embeddings, the first nodes keep their own."""
        support = x @ self.weight
        messages = torch.sigmoid(self.attention(ops)) * support[sources] / parallel
        own = torch.zeros_like(support)
        own[:sources_kept] = support[:sources_kept]
        return own.index_add(0, targets, messages)


class GraphEncoder(nn.Module):
    """Embeddings of a cell's nodes. Input nodes start from learned vectors, the others from zero."""

    def __init__(
        self, shape: EncoderShape, nodes: int, inputs: int, operations: int, none: int | None, parallel: int = 1
    ) -> None:
        """`none` is the operation without information; `parallel` the edges that a node averages over (1 sums)."""
        super().__init__()
        shape.check()
        self.nodes, self.inputs, self.none, self.parallel = nodes, inputs, none, parallel
        self.node = nn.Parameter(torch.empty(inputs, shape.node_dim).normal_())
        self.op = nn.Parameter(torch.empty(operations, shape.op_dim).normal_())
        self.hidden = nn.Linear(shape.node_dim, shape.hidden_dim)
        sizes = [shape.hidden_dim, *shape.widths]
        self.layers = nn.ModuleList(FlowLayer(a, b, shape.op_dim) for a, b in pairwise(sizes))

    def forward(self, edges: Sequence[tuple[int, int]], operations: Sequence[int]) -> Tensor:
        """[nodes, width] for edges (from, to) with their operations; an edge of `none` carries nothing."""
        kept = [(edge, op) for edge, op in zip(edges, operations, strict=True) if op != self.none]
        index = torch.tensor([[*edge, op] for edge, op in kept], dtype=torch.long, device=self.op.device).view(-1, 3)
        sources, targets, ops = index[:, 0], index[:, 1], self.op[index[:, 2]]
        empty = self.node.new_zeros(self.nodes - self.inputs, self.node.shape[1])
        x = self.hidden(torch.cat([self.node, empty]))
        for number, layer in enumerate(self.layers):
            x = layer(torch.relu(x) if number else x, sources, targets, ops, self.inputs, self.parallel)
        return x
