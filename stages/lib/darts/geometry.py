"""Closed forms of the DARTS space: every convolution, linear map and learnable normalisation as plain numbers."""

from stages.lib.models.geometry import Canvas, Layer

KERNELS = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "dil_conv_3x3": 3, "dil_conv_5x5": 5}


def _norm(canvas: Canvas, name: str, channels: int, affine: bool) -> None:
    if affine:
        canvas.norm(name, channels)


def _separable_step(canvas: Canvas, name: str, channels: int, kernel: int, stride: int, affine: bool) -> None:
    # A dilated kernel with its larger padding gives the same output sides as a plain one.
    canvas.conv(f"{name}.1", channels, channels, kernel, stride, groups=channels)
    canvas.conv(f"{name}.2", channels, channels, 1)
    _norm(canvas, f"{name}.3", channels, affine)


def factorized_reduce(canvas: Canvas, name: str, inputs: int, outputs: int, affine: bool = True) -> None:
    """Note the layers of a FactorizedReduce and halve the canvas."""
    height, width = canvas.height, canvas.width
    canvas.conv(f"{name}.conv_1", inputs, outputs // 2, 1, 2)
    canvas.height, canvas.width = height, width
    canvas.conv(f"{name}.conv_2", inputs, outputs - outputs // 2, 1, 2)
    _norm(canvas, f"{name}.bn", outputs, affine)


def relu_conv_bn(canvas: Canvas, name: str, inputs: int, outputs: int, affine: bool = True) -> None:
    """Note the layers of a ReluConvBn with a 1x1 kernel."""
    canvas.conv(f"{name}.1", inputs, outputs, 1)
    _norm(canvas, f"{name}.2", outputs, affine)


def operation_layers(
    operation: str, name: str, channels: int, stride: int, sides: tuple[int, int], affine: bool = True
) -> list[Layer]:
    """Layers of a candidate operation on [channels, *sides], named as the modules of `operations.operation` below `name`."""
    canvas = Canvas(*sides)
    if operation.startswith("sep"):
        _separable_step(canvas, f"{name}.0", channels, KERNELS[operation], stride, affine)
        _separable_step(canvas, f"{name}.1", channels, KERNELS[operation], 1, affine)
    elif operation.startswith("dil"):
        _separable_step(canvas, name, channels, KERNELS[operation], stride, affine)
    elif operation == "skip_connect" and stride == 2:
        factorized_reduce(canvas, name, channels, channels, affine)
    return canvas.layers


def preprocess_layers(
    name: str, inputs: int, channels: int, halve: bool, sides: tuple[int, int], affine: bool = True
) -> list[Layer]:
    """Layers of `operations.preprocess`."""
    canvas = Canvas(*sides)
    (factorized_reduce if halve else relu_conv_bn)(canvas, name, inputs, channels, affine)
    return canvas.layers


def halved(sides: tuple[int, int]) -> tuple[int, int]:
    """Sides after a stride of 2."""
    return (sides[0] + 1) // 2, (sides[1] + 1) // 2
