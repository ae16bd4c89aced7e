"""Convolutional peers of the transformer's size: a body of EDSR's residual blocks with the same heads and tails, and DnCNN."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from stages.lib.restoration.blocks import ResBlock, conv
from stages.papers.ipt.network import MultiTask

if TYPE_CHECKING:
    from stages.papers.ipt.settings import Net, Peers


class ConvolutionalPeer(MultiTask):
    """EDSR with a head and a tail for each task: `blocks` residual blocks and a last convolution in the body's place.

    It works at any image size; the tiles of `net.image` are what it is trained on.
    """

    def __init__(self, tasks: Sequence[str], net: "Net", blocks: int) -> None:
        super().__init__(tasks, net)
        self.body = nn.Sequential(*(ResBlock(net.features) for _ in range(blocks)), conv(net.features, net.features))

    def through(self, h: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """The body's features, and each pixel's as tokens."""
        found = self.body(h)
        return found, found.flatten(2).transpose(1, 2)


class DnCNN(nn.Module):
    """Zhang et al. 2017: convolutions, batch normalisation and ReLU; the last one gives what is wrong with the input.

    [B, 3, H, W] to [B, 3, H, W] in 0..255. With `net.input_skip` a fresh one leaves images as they are, as the others do.
    """

    def __init__(self, peers: "Peers", net: "Net") -> None:
        super().__init__()
        self.unit, features = net.unit, peers.dncnn_features
        middle = [layer for _ in range(peers.dncnn_depth - 2) for layer in normalised(features, peers.dncnn_momentum)]
        last = conv(features, 3)
        if net.input_skip:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(conv(3, features), nn.ReLU(), *middle, last)

    def forward(self, x: Tensor, _: str | None = None) -> Tensor:
        """The input less what the layers find wrong with it, whatever the task."""
        return x - self.layers(x / self.unit) * self.unit


def normalised(features: int, momentum: float) -> list[nn.Module]:
    """A convolution without bias, its normalisation and a ReLU."""
    plain = nn.Conv2d(features, features, 3, padding=1, bias=False)
    return [plain, nn.BatchNorm2d(features, momentum=momentum), nn.ReLU()]
