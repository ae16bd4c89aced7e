"""A trained transformer whose heads and neurons are switched by gates: how candidates are scored, with shared weights."""

import torch
from torch import Tensor, nn

from stages.lib.vit.net import VisionTransformer
from stages.papers.multi_dimensional_vit_compression.compressed import step
from stages.papers.multi_dimensional_vit_compression.cost import Shape
from stages.papers.multi_dimensional_vit_compression.ranking import Kept


class Gated(nn.Module):
    """The net itself, whose weights are neither copied nor changed, under gates of 0 and 1 and a token sparsity."""

    def __init__(self, net: VisionTransformer, reduce: list[int] | tuple[int, ...]) -> None:
        super().__init__()
        self.net, self.reduce = net, tuple(reduce)
        self.gates: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * len(net.blocks)
        self.sparsity = 0.0

    def set(self, kept: Kept, sparsity: float) -> None:
        """Open the gates of the kept heads and neurons only, and drop this share of the tokens."""
        record, device = self.net.record(), self.net.classifier.weight.device
        self.gates = [
            (_gate(heads, record["heads"], device), _gate(neurons, record["hidden"], device))
            for heads, neurons in zip(kept.heads, kept.neurons, strict=True)
        ]
        self.sparsity = sparsity

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        h = self.net.stem(x)
        for i, (block, (heads, neurons)) in enumerate(zip(self.net.blocks, self.gates, strict=True), 1):
            h, _ = step(block, h, self.sparsity * (i in self.reduce), head_gate=heads, neuron_gate=neurons)
        return self.net.head(h)


def _gate(kept: tuple[int, ...], count: int, device: torch.device) -> Tensor:
    gate = torch.zeros(count, device=device)
    gate[list(kept)] = 1.0
    return gate


def dense_shape(record: dict, reduce: list[int] | tuple[int, ...]) -> Shape:
    """The shape that policies of a dense net refer to."""
    tokens = (record["input"][1] // record["patch"]) ** 2 + 1
    return Shape(tokens, record["embed"], record["embed"] // record["heads"], record["heads"], record["hidden"],
                 record["depth"], tuple(reduce))  # fmt: skip
