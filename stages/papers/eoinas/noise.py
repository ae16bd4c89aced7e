"""The planted candidate of section 7's extreme check: an operation that carries nothing."""

from torch import Tensor, nn

NOISE = "noise"
SCALE = 1e4  # digits of the input far below those that mean anything


class Noise(nn.Module):
    """Uniform noise, variance 1, from the low digits of the input: deterministic, without gradient, fresh for each picture."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, ceil(H / stride), ceil(W / stride)]."""
        scaled = SCALE * x.detach()[:, :, :: self.stride, :: self.stride]
        return (scaled - scaled.floor() - 0.5) * 12.0**0.5
