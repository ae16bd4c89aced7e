"""VGG with batch normalisation for small images: convolutions with bias, one linear map (the VGGNet of dcp)."""

import copy

from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.models import checks
from stages.lib.models.base import Net, initialise, register
from stages.lib.models.geometry import Canvas, Layer
from stages.lib.models.sites import Site

# M and A: max and average pooling over 2x2.
CONFIGURATIONS = {
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "A"],
    13: [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "A"],
    16: [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "A"],
    19: [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "A"],
}
POOLS = {"M": nn.MaxPool2d, "A": nn.AvgPool2d}


class PlainBlock(nn.Sequential):
    """conv (3x3, with bias) - BN - ReLU, and the poolings that follow."""

    def __init__(self, inputs: int, outputs: int, pools: list[str]) -> None:
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, 3, padding=1))
        self.add_module("bn", nn.BatchNorm2d(outputs))
        self.add_module("relu", nn.ReLU())
        for i, pool in enumerate(pools):
            self.add_module(f"pool{i}", POOLS[pool](2))


@register
class VGG(Net):
    """A row of convolutions; the stem is the identity. Module paths: `blocks.<i>.{conv,bn}`, `fc`.

    Record: `{kind, input: [C,H,W], classes, layers: [64, 64, "M", ...]}`.
    """

    kind = "vgg"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        self.stem = nn.Identity()
        self.blocks = nn.ModuleList(PlainBlock(*plan) for plan in _plan(record))
        self.fc = nn.Linear(_widths(record)[-1], record["classes"])
        initialise(self)

    def head(self, h: Tensor) -> Tensor:
        """Logits [N,classes]: average over what is left of the picture (one pixel for 32x32 images), linear."""
        return self.fc(h.mean((2, 3)))

    def sites(self) -> list[Site]:
        """Every convolution but the first consumes prunable channels; the last one keeps its outputs."""
        return [
            Site(f"blocks.{i}.conv", i, f"blocks.{i - 1}.conv", f"blocks.{i - 1}.bn", f"blocks.{i}.conv")
            for i in range(1, len(self.blocks))
        ]

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net and its input survives the poolings."""
        checks.keys(record, {"kind", "input", "classes", "layers"}, "record")
        checks.integers(record["input"], "input", (3,))
        checks.integer(record["classes"], "classes")
        if not isinstance(record["layers"], list) or not record["layers"] or isinstance(record["layers"][0], str):
            raise checks.refuse("layers", "a list of widths and poolings that starts with a width", record["layers"])
        for i, layer in enumerate(record["layers"]):
            if not (isinstance(layer, str) and layer in POOLS):
                checks.integer(layer, f"layers[{i}]")
        cls.layers(record)

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer, from the record alone."""
        canvas = Canvas(*record["input"][1:])
        for i, (inputs, outputs, pools) in enumerate(_plan(record)):
            canvas.conv(f"blocks.{i}.conv", inputs, outputs, 3, bias=True)
            canvas.norm(f"blocks.{i}.bn", outputs)
            for _ in pools:
                canvas.shrink(2, 2, 0, f"pooling after blocks.{i}")
        canvas.linear("fc", _widths(record)[-1], record["classes"])
        return canvas.layers

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record in which the layer that feeds each site named in `widths` has that many channels."""
        thin = copy.deepcopy(record)
        places = [i for i, layer in enumerate(record["layers"]) if layer not in POOLS]
        for i, place in enumerate(places[:-1]):
            thin["layers"][place] = widths.get(f"blocks.{i + 1}.conv", thin["layers"][place])
        return thin


def _widths(record: dict) -> list[int]:
    return [layer for layer in record["layers"] if layer not in POOLS]


def _plan(record: dict) -> list[tuple[int, int, list[str]]]:
    plan: list[tuple[int, int, list[str]]] = []
    before = record["input"][0]
    for layer in record["layers"]:
        if layer in POOLS:
            plan[-1][2].append(layer)
        else:
            plan.append((before, layer, []))
            before = layer
    return plan


def vgg(layers: list[int | str], classes: int = 10, image: int = 32, in_channels: int = 3) -> VGG:
    """A VGG-BN from a list of widths and poolings ("M" max, "A" average)."""
    record = {"kind": VGG.kind, "input": [in_channels, image, image], "classes": classes, "layers": list(layers)}
    VGG.check(record)
    return VGG(record)


def vgg_cifar(depth: int = 19, classes: int = 10, in_channels: int = 3, image: int = 32) -> VGG:
    """The CIFAR VGG-BN of depth 11, 13, 16 or 19."""
    if depth not in CONFIGURATIONS:
        raise StageError(
            f"depth of a VGG: expected one of {', '.join(map(str, CONFIGURATIONS))}, got {depth}; correct the params file"
        )
    return vgg(CONFIGURATIONS[depth], classes, image, in_channels)


def vgg19_bn_cifar(classes: int = 10) -> VGG:
    """VGG-19-BN for 32x32 images, dcp's VGGNet."""
    return vgg_cifar(19, classes)
