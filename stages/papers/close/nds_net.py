"""The supernet of NDS's ResNet space: blocks shared by the positions of a stage, widths by the first channels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib.errors import StageError
from stages.papers.close.glow import normalised
from stages.papers.close.groups import Groups, grown
from stages.papers.close.shape import NdsShape


@dataclass(frozen=True)
class NdsArchitecture:
    """Depth and width of each stage."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]


class SlicedConv(nn.Module):
    """Convolution and BN without scale and shift; a narrower one takes the first channels (ordinal slicing)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor, outputs: int) -> Tensor:
        """[N, outputs, H', W'] from x [N, inputs, H, W], both at most the whole convolution's."""
        weight = self.weight[:outputs, : x.shape[1]]
        return normalised(functional.conv2d(x, weight, stride=self.stride, padding=weight.shape[-1] // 2))


class SlicedBlock(nn.Module):
    """Basic residual block; with a projection where it begins a stage."""

    def __init__(self, inputs: int, outputs: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.first, self.second = SlicedConv(inputs, outputs, 3, stride), SlicedConv(outputs, outputs, 3)
        self.shortcut = SlicedConv(inputs, outputs, 1, stride) if projection else None

    def forward(self, x: Tensor, width: int) -> Tensor:
        """[N, width, H', W']."""
        out = self.second(functional.relu(self.first(x, width)), width)
        return functional.relu(out + (x if self.shortcut is None else self.shortcut(x, width)))


class NdsSupernet(nn.Module):
    """Weights of all depths and widths; `blocks` shared ones in each stage, taken by a position as its group says."""

    def __init__(self, shape: NdsShape, image: tuple[int, int, int], classes: int, blocks: int) -> None:
        super().__init__()
        if not 1 <= blocks <= shape.positions:
            raise StageError(f"blocks={blocks}: expected 1 to {shape.positions}, the positions of a stage")
        widest = max(shape.widths)
        self.shape, self.blocks = shape, blocks
        self.stem = SlicedConv(image[0], shape.stem, 3)
        begins = [SlicedBlock(widest if stage else shape.stem, widest, 1 + (stage > 0), True) for stage in range(shape.stages)]
        self.begins = nn.ModuleList(begins)
        self.shared = nn.ModuleList(
            nn.ModuleList(SlicedBlock(widest, widest, 1, False) for _ in range(blocks)) for _ in range(shape.stages)
        )
        self.classifier = nn.Linear(widest, classes)

    def forward(self, x: Tensor, architecture: NdsArchitecture, gate: tuple[int, ...]) -> Tensor:
        """Logits [N, classes]; `gate` is the block of each position."""
        h = functional.relu(self.stem(x, self.shape.stem))
        for begin, shared, depth, width in zip(
            self.begins, self.shared, architecture.depths, architecture.widths, strict=True
        ):  # fmt: skip
            h = begin(h, width)
            for position in range(depth - 1):
                h = shared[gate[position]](h, width)
        return functional.linear(h.mean((2, 3)), self.classifier.weight[:, : h.shape[1]], self.classifier.bias)

    def stacks(self) -> list[list[nn.Parameter]]:
        """The versions of every shared weight, in the order of the blocks."""
        return [list(each) for stage in self.shared for each in zip(*(block.parameters() for block in stage), strict=True)]


class NdsGate(nn.Module):
    """The fixed assignment of a level: its groups, the same in every stage."""

    def __init__(self, shape: NdsShape) -> None:
        super().__init__()
        self.shape = shape

    def groups(self, level: int) -> Groups:
        """As many groups as the level says."""
        return grown(self.shape.positions, level, self.shape.criteria)

    def parent_of(self, block: int) -> int:
        """The block of the group that block's group was split from."""
        return self.groups(block).split(self.shape.criteria)[1]

    def draw(self, architecture: NdsArchitecture, level: int, generator: torch.Generator) -> tuple[int, ...]:
        """The block of each position."""
        return self.groups(level).gate()

    def decide(self, architecture: NdsArchitecture, level: int, generator: torch.Generator | None = None) -> tuple[int, ...]:
        """The block of each position."""
        return self.groups(level).gate()
