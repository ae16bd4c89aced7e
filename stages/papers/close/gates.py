"""Which GLOW block each edge uses: the learned gate, its ablations, and the fixed assignments of other supernets.

`draw` is for a training step: one-hot rows [edges, L] whose gradient is that of a Gumbel softmax, or plain block numbers where
nothing is learned. `decide` is for scoring: the most probable block of each edge; with a generator it draws again, as the
official code's evaluation does, which makes scores random.
"""

import random
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from stages.lib.gumbel import gumbel_noise, gumbel_softmax, straight_through
from stages.papers.close.encoder import GraphEncoder
from stages.papers.close.shape import EncoderShape, GateShape
from stages.papers.close.space import EDGES, NODES, NONE, OPERATIONS, Architecture

Blocks = tuple[int, ...]


class Mlp(nn.Sequential):
    """Linear-ReLU-Dropout for each hidden size, then `last`."""

    def __init__(self, inputs: int, shape: GateShape, outputs: int) -> None:
        sizes, layers = [inputs, *shape.hidden], []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(shape.dropout)]
        super().__init__(*layers, nn.Linear(sizes[-1], outputs))

    @property
    def last(self) -> nn.Linear:
        """The layer whose rows are the blocks' logits."""
        return self[-1]


class FixedGate(nn.Module):
    """The same block for an edge in every architecture: (0,) * 6 is one block for all, 0..5 the vanilla supernet."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = blocks

    def draw(self, architecture: Architecture, level: int, generator: torch.Generator) -> Blocks:
        """The assignment."""
        return self.blocks

    def decide(self, architecture: Architecture, level: int, generator: torch.Generator | None = None) -> Blocks:
        """The assignment."""
        return self.blocks


class RandomGate(nn.Module):
    """A uniform block for each edge: anew at every training step; for scores always the same one of an architecture."""

    def draw(self, architecture: Architecture, level: int, generator: torch.Generator) -> Blocks:
        """Uniform blocks below `level`."""
        return tuple(torch.randint(level, (len(architecture),), generator=generator).tolist())

    def decide(self, architecture: Architecture, level: int, generator: torch.Generator | None = None) -> Blocks:
        """Uniform blocks that follow from the architecture alone, or from the generator."""
        if generator is not None:
            return self.draw(architecture, level, generator)
        fixed = random.Random(f"{architecture}")
        return tuple(fixed.randrange(level) for _ in architecture)


class LearnedGate(nn.Module):
    """Encoder and MLP; subclasses give `logits`. At level 1 there is nothing to choose and nothing is computed."""

    temperature: float
    mlp: Mlp

    def logits(self, architecture: Architecture) -> Tensor:
        """[edges, K] of one architecture."""
        raise NotImplementedError

    def edges(self, architecture: Architecture) -> int:
        """How many edges an architecture has."""
        return len(architecture)

    def rows(self, block: int) -> list[int]:
        """Rows of the MLP's last layer that speak for a block."""
        raise NotImplementedError

    def draw(self, architecture: Architecture, level: int, generator: torch.Generator) -> Tensor | Blocks:
        """One-hot [edges, level] by the straight-through estimator."""
        if level == 1:
            return (0,) * self.edges(architecture)
        return straight_through(gumbel_softmax(self.logits(architecture)[:, :level], self.temperature, generator))

    @torch.no_grad()
    def decide(self, architecture: Architecture, level: int, generator: torch.Generator | None = None) -> Blocks:
        """Largest logits, of equal ones the first."""
        if level == 1:
            return (0,) * self.edges(architecture)
        logits = self.logits(architecture)[:, :level].cpu()
        if generator is not None:
            logits = logits + gumbel_noise(tuple(logits.shape), generator)
        return tuple(logits.argmax(1).tolist())


def nb201_encoder(shape: EncoderShape) -> GraphEncoder:
    """The encoder of NAS-Bench-201's cells; `none` edges carry nothing."""
    return GraphEncoder(shape, NODES, 1, len(OPERATIONS), NONE)


class NodeGate(LearnedGate):
    """logits of edge f -> t = MLP([y_f; y_t]), the gate of the paper."""

    def __init__(self, shape: GateShape, blocks: int) -> None:
        super().__init__()
        self.temperature, self.encoder = shape.temperature, nb201_encoder(shape.encoder)
        self.mlp = Mlp(2 * shape.encoder.widths[-1], shape, blocks)

    def logits(self, architecture: Architecture) -> Tensor:
        """[6, K]."""
        return self.mlp(edge_features(self.encoder(EDGES, architecture), EDGES))

    def rows(self, block: int) -> list[int]:
        """One row."""
        return [block]


class ArchitectureGate(LearnedGate):
    """logits of all edges at once = MLP(embedding of the output node), the arch-level ablation."""

    def __init__(self, shape: GateShape, blocks: int) -> None:
        super().__init__()
        self.temperature, self.encoder, self.blocks = shape.temperature, nb201_encoder(shape.encoder), blocks
        self.mlp = Mlp(shape.encoder.widths[-1], shape, len(EDGES) * blocks)

    def logits(self, architecture: Architecture) -> Tensor:
        """[6, K]."""
        return self.mlp(self.encoder(EDGES, architecture)[-1]).view(len(EDGES), self.blocks)

    def rows(self, block: int) -> list[int]:
        """One row an edge."""
        return [edge * self.blocks + block for edge in range(len(EDGES))]


def edge_features(nodes: Tensor, edges: Sequence[tuple[int, int]]) -> Tensor:
    """[edges, 2 width]: the embeddings of an edge's two ends."""
    sources, targets = (torch.tensor(side, device=nodes.device) for side in zip(*edges, strict=True))
    return torch.cat([nodes[sources], nodes[targets]], 1)
