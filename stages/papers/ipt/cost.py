"""Parameters and multiply-adds of the transformer in closed form, from its settings alone.

1 MAC is one multiply-add of a convolution, a linear map or an attention product, for one patch of image x image pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.papers.ipt.settings import Net
from stages.papers.ipt.tasks import task

# The official net shifts colours by two frozen 1x1 convolutions of 3 channels, which public tables count.
SHIFT_PARAMETERS = 2 * (3 * 3 + 3)


@dataclass(frozen=True)
class Cost:
    """Learnable numbers and multiply-adds of a part."""

    params: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs)

    def times(self, count: int) -> "Cost":
        """As many parts of this cost."""
        return Cost(self.params * count, self.macs * count)


def conv(inputs: int, outputs: int, kernel: int, side: int) -> Cost:
    """A convolution with bias whose output has side x side pixels."""
    weights = inputs * outputs * kernel**2
    return Cost(weights + outputs, weights * side**2)


def linear(inputs: int, outputs: int, tokens: int) -> Cost:
    """A linear map with bias, applied to every token."""
    return Cost(inputs * outputs + outputs, inputs * outputs * tokens)


def attention(net: Net) -> Cost:
    """Four maps without biases, and the products q k^T and weights v: 4 d^2 numbers, 4 N d^2 + 2 N^2 d MACs."""
    return Cost(4 * net.width**2, 4 * net.tokens * net.width**2 + 2 * net.tokens**2 * net.width)


def feed_forward(net: Net) -> Cost:
    """Two maps of a token, d -> hidden -> d."""
    return linear(net.width, net.hidden, net.tokens) + linear(net.hidden, net.width, net.tokens)


def norms(net: Net, count: int) -> Cost:
    """`count` layer norms."""
    return Cost(2 * net.width * count if net.norm else 0)


def encoder_layer(net: Net) -> Cost:
    """12 d^2 + 9 d numbers at ratio 4."""
    return attention(net) + feed_forward(net) + norms(net, 2)


def decoder_layer(net: Net) -> Cost:
    """16 d^2 + 11 d numbers at ratio 4."""
    return attention(net).times(2) + feed_forward(net) + norms(net, 3)


def query(net: Net) -> Cost:
    """One task's map of N x d numbers."""
    return Cost(net.tokens * net.width if net.mlp else 0)


def body(net: Net) -> Cost:
    """Both stacks, positions, linear encoding and last MLP; without queries."""
    found = encoder_layer(net).times(net.layers) + decoder_layer(net).times(net.layers)
    if net.positions != "none":
        found += Cost(net.tokens * net.width)
    return found + linear(net.width, net.width, net.tokens) + feed_forward(net) if net.mlp else found


def head(net: Net) -> Cost:
    """A convolution and the residual blocks of a task."""
    block = conv(net.features, net.features, net.head_kernel, net.image).times(2)
    return conv(3, net.features, 3, net.image) + block.times(net.head_blocks)


def tail(net: Net, scale: int) -> Cost:
    """Upsampler (twice by 2 for scale 4) and last convolution."""
    found, side = Cost(), net.image
    for step in {1: [], 4: [2, 2]}.get(scale, [scale]):
        found += conv(net.features, step**2 * net.features, 3, side)
        side *= step
    return found + conv(net.features, 3, 3, side)


def shifts(net: Net, scale: int) -> Cost:
    """MACs of the official net's two colour shifts, which are additions here."""
    return Cost(0, 9 * net.image**2 + 9 * (net.image * scale) ** 2)


def parameters(net: Net, tasks: Sequence[str]) -> int:
    """Learnable numbers of the net with these tasks."""
    own = sum((head(net) + tail(net, task(name).scale) + query(net) for name in tasks), Cost())
    return (body(net) + own).params


def macs(net: Net, name: str) -> int:
    """Multiply-adds of one patch on its way through one task's head, the body and that task's tail."""
    return (head(net) + body(net) + tail(net, task(name).scale)).macs
