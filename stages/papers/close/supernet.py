"""The supernet of NAS-Bench-201's space: stem, cells of shared blocks between residual reductions, classifier."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from stages.lib.errors import StageError
from stages.papers.close.glow import GlowCell
from stages.papers.close.shape import Shape
from stages.papers.close.space import Architecture


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with scale and shift, by the batch's statistics in every mode (see glow.normalised)."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


def stem(inputs: int, channels: int, stride: int, norm=norm) -> nn.Sequential:
    """3x3 convolution and BN."""
    return nn.Sequential(nn.Conv2d(inputs, channels, 3, stride, 1, bias=False), norm(channels))


class Reduction(nn.Module):
    """Residual block that halves the sides: two ReLU-conv3x3-BN beside a pooled 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, norm=norm) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), norm(outputs))
        self.second = nn.Sequential(nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), norm(outputs))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, ceil(H / 2), ceil(W / 2)]."""
        return self.shortcut(x) + self.second(self.first(x))


class Supernet(nn.Module):
    """Weights of all sub-networks. Calling it needs an architecture and what its gate says."""

    def __init__(self, shape: Shape, image: tuple[int, int, int], classes: int, blocks: int) -> None:
        """`image` is [C, H, W]; `blocks` is K, the number of GLOW blocks of every cell."""
        super().__init__()
        widths = shape.channels
        if max(image[1:]) < shape.stride * 2 ** (len(widths) - 1):
            raise StageError(f"net.channels={widths}: {len(widths) - 1} reductions leave nothing of {list(image)} images")
        self.blocks = blocks
        self.stem = stem(image[0], widths[0], shape.stride)
        self.stages = nn.ModuleList(nn.ModuleList(GlowCell(width, blocks) for _ in range(shape.cells)) for width in widths)
        self.reductions = nn.ModuleList(Reduction(*pair) for pair in pairwise(widths))
        self.last = norm(widths[-1])
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor, architecture: Architecture, gates: Tensor | tuple[int, ...]) -> Tensor:
        """Logits [N, classes]; the same gates serve every cell (each cell has blocks of its own)."""
        h = self.stem(x)
        for number, cells in enumerate(self.stages):
            if number:
                h = self.reductions[number - 1](h)
            for cell in cells:
                h = cell(h, architecture, gates)
        h = functional.relu(self.last(h)).mean((2, 3))
        return self.classifier(self.dropout(h))

    def stacks(self) -> list[list[nn.Parameter]]:
        """The K versions of every searchable weight, in the order of the blocks."""
        return [list(conv.blocks) for cells in self.stages for cell in cells for conv in cell.convs.values()]
