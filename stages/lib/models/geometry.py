"""Layers as plain numbers: what the closed forms of parameters and MACs are computed from. No torch here.

Convention: 1 MAC = one multiply-add of a convolution or linear map; biases, normalisation, activations and pooling
count 0.
"""

from dataclasses import dataclass

from stages.lib.models.checks import refuse


@dataclass(frozen=True)
class Layer:
    """One convolution, linear map (kernel 1, one position) or normalisation.

    `positions` is the number of output pixels.
    """

    name: str
    kind: str  # conv | linear | norm
    inputs: int
    outputs: int
    kernel: int = 1
    groups: int = 1
    bias: bool = False
    positions: int = 1

    @property
    def macs(self) -> int:
        """Multiply-adds of one sample."""
        return 0 if self.kind == "norm" else self.weights * self.positions

    @property
    def weights(self) -> int:
        """Entries of the weight tensor (a normalisation has a scale for each channel)."""
        return self.outputs if self.kind == "norm" else self.outputs * (self.inputs // self.groups) * self.kernel**2

    @property
    def params(self) -> int:
        """Learnable numbers: the weights, and a bias for each output (a normalisation always has one)."""
        return self.weights + (self.outputs if self.bias or self.kind == "norm" else 0)


def side(length: int, kernel: int, stride: int, padding: int, where: str) -> int:
    """Output length of a convolution or pooling along one axis.

    StageError when the input is smaller than the kernel.
    """
    if length + 2 * padding < kernel:
        raise refuse(where, f"an input of at least {kernel - 2 * padding} pixels a side", length)
    return (length + 2 * padding - kernel) // stride + 1


@dataclass
class Canvas:
    """Height and width as they shrink through a net; collects the layers met."""

    height: int
    width: int

    def __post_init__(self) -> None:
        self.layers: list[Layer] = []

    def shrink(self, kernel: int, stride: int, padding: int, where: str) -> None:
        """Pass a window of the given size over the canvas (pooling: no layer is noted)."""
        self.height = side(self.height, kernel, stride, padding, where)
        self.width = side(self.width, kernel, stride, padding, where)

    def conv(
        self,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
        groups: int = 1,
    ) -> None:
        """Note a convolution (padding kernel // 2 unless told) and shrink the canvas by it."""
        self.shrink(kernel, stride, kernel // 2 if padding is None else padding, name)
        self.layers.append(Layer(name, "conv", inputs, outputs, kernel, groups, bias, self.height * self.width))

    def norm(self, name: str, channels: int) -> None:
        """Note a batch normalisation."""
        self.layers.append(Layer(name, "norm", channels, channels))

    def linear(self, name: str, inputs: int, outputs: int) -> None:
        """Note a linear map with a bias."""
        self.layers.append(Layer(name, "linear", inputs, outputs, bias=True))
