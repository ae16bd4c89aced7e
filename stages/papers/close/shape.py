"""Sizes of the nets of NAS-Bench-201's space and of the gate, and their parameters in closed form. No torch here."""

from dataclasses import dataclass
from itertools import pairwise

from stages.lib.stage import StageError, field


@dataclass
class Shape:
    """The skeleton that supernets and stand-alone nets share."""

    channels: list[int] = field(help="width of the cells of each stage; a reduction stands between two stages")
    cells: int = field(help="cells a stage")
    stride: int = field(help="stride of the stem; 1 in the paper")
    dropout: float = field(help="dropout before the classifier, in [0, 1)")

    def check(self) -> None:
        """StageError for a value out of range."""
        if not self.channels or min(self.channels) < 1 or self.cells < 1:
            raise StageError(
                f"net.channels={self.channels}, net.cells={self.cells}: expected one stage, channel and cell or more"
            )
        if self.stride not in (1, 2):
            raise StageError(f"net.stride={self.stride}: expected 1 or 2")
        if not 0 <= self.dropout < 1:
            raise StageError(f"net.dropout={self.dropout}: expected a share in [0, 1)")


@dataclass
class EncoderShape:
    """Sizes of the encoder."""

    op_dim: int = field(help="embedding of an operation")
    node_dim: int = field(help="embedding of an input node")
    hidden_dim: int = field(help="node features in front of the first layer")
    widths: list[int] = field(help="outputs of each layer")

    def check(self) -> None:
        """StageError for a size below 1."""
        if not self.widths or min(self.op_dim, self.node_dim, self.hidden_dim, *self.widths) < 1:
            raise StageError("gate.encoder: expected one layer or more, and every size 1 or more")


@dataclass
class GateShape:
    """Sizes of the gate module."""

    encoder: EncoderShape = field(default_factory=EncoderShape)
    hidden: list[int] = field(help="hidden layers of the MLP")
    dropout: float = field(help="dropout after each of them, in [0, 1)")
    temperature: float = field(help="tau of the Gumbel softmax; scales the gradient alone")

    def check(self) -> None:
        """StageError for a value out of range."""
        if not 0 <= self.dropout < 1 or not 0 < self.temperature < float("inf"):
            raise StageError(f"gate: dropout={self.dropout}, temperature={self.temperature}: expected [0, 1) and above 0")
        if not self.hidden or min(self.hidden) < 1:
            raise StageError(f"gate.hidden={self.hidden}: expected one layer or more of 1 or more")


@dataclass
class DartsShape:
    """The row of cells."""

    cells: int = field(help="cells in all; reductions at a third and two thirds")
    channels: int = field(help="width of the first cell")
    nodes: int = field(help="intermediate nodes of a cell")


@dataclass
class NdsShape:
    """Choices of the space; every stage has its own depth and width."""

    stages: int = field(help="stages; each but the first halves the sides")
    depths: list[int] = field(help="choices of the number of blocks of a stage")
    widths: list[int] = field(help="choices of the width of a stage")
    stem: int = field(help="channels of the stem")
    criteria: str = field(help="which group a new level splits: max, pre")

    @property
    def positions(self) -> int:
        """Positions that share blocks: all of a stage but its first block."""
        return max(self.depths) - 1


def closed_form(shape: Shape, image_channels: int, classes: int, blocks: int) -> int:
    """Parameters of a supernet from its shape alone: the fixed part and `blocks` times (c^2 + 9 c^2) a cell."""
    widths = shape.channels
    fixed = 9 * image_channels * widths[0] + 2 * widths[0]
    fixed += sum(9 * a * b + 2 * b + 9 * b * b + 2 * b + a * b for a, b in pairwise(widths))
    fixed += 2 * widths[-1] + widths[-1] * classes + classes
    return fixed + blocks * shape.cells * sum(10 * width * width for width in widths)


def gate_closed_form(shape: GateShape, operations: int, outputs: int) -> int:
    """Parameters of the node-level gate: embeddings of operations and of one input node, encoder, MLP with `outputs` blocks."""
    encoder = shape.encoder
    sizes = [encoder.hidden_dim, *encoder.widths]
    total = operations * encoder.op_dim + encoder.node_dim + (encoder.node_dim + 1) * encoder.hidden_dim
    total += sum(a * b + (encoder.op_dim + 1) * b for a, b in pairwise(sizes))
    layers = [2 * encoder.widths[-1], *shape.hidden, outputs]
    return total + sum((a + 1) * b for a, b in pairwise(layers))
