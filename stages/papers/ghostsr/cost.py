"""Parameters and MACs in closed form, from the shape of a net alone. A shift costs nothing and has one index a layer.

While it is learned, a shift has (2 radius + 1)^2 logits, which the published sizes count.
"""

import dataclasses

from stages.lib.models.geometry import Layer
from stages.papers.ghostsr.carn import FACTORS, UNITS
from stages.papers.ghostsr.ghost import GhostOptions, intrinsic_count
from stages.papers.ghostsr.imdn import REDUCTION
from stages.papers.ghostsr.settings import Backbone

RGB = 3


@dataclasses.dataclass(frozen=True)
class Part:
    """A convolution, whether it is one that is converted, and whether a forward pass uses it."""

    layer: Layer
    converted: bool = False
    used: bool = True


@dataclasses.dataclass(frozen=True)
class Cost:
    """Sums over a net's convolutions; `own` counts those that are converted alone."""

    parameters: int
    macs: int
    own_parameters: int
    own_macs: int


def total(parts: list[Part]) -> Cost:
    """Parameters of all parts, MACs of those that are used."""
    own = [part for part in parts if part.converted]
    return Cost(
        sum(part.layer.params for part in parts), sum(part.layer.macs for part in parts if part.used),
        sum(part.layer.params for part in own), sum(part.layer.macs for part in own),
    )  # fmt: skip


def dense(shape: Backbone, height: int, width: int) -> list[Part]:
    """The convolutions of a dense net for a low-resolution image of height x width."""
    layers = {"edsr": _edsr, "rdn": _rdn, "carn": _carn, "imdn": _imdn}[shape.name]
    return layers(shape, height * width)


def ghost(parts: list[Part], options: GhostOptions) -> list[Part]:
    """The same with ghost modules, as exported: thinner convolutions, and the depth-wise ones of that cheap operation."""
    made = []
    for part in parts:
        if not part.converted:
            made.append(part)
            continue
        layer = part.layer
        count = intrinsic_count(layer.outputs, options.ratio)
        made.append(dataclasses.replace(part, layer=dataclasses.replace(layer, outputs=count)))
        rest = layer.outputs - count
        if rest and options.cheap == "depthwise":
            own = Layer(f"{layer.name}.cheap", "conv", rest, rest, 2 * options.radius + 1, rest, False, layer.positions)
            made.append(dataclasses.replace(part, layer=own))
    return made


def logits(parts: list[Part], options: GhostOptions) -> int:
    """Logits of all learnable shifts of a net that is being trained."""
    side = (2 * options.radius + 1) ** 2
    rest = [p.layer.outputs - intrinsic_count(p.layer.outputs, options.ratio) for p in parts if p.converted]
    return sum(side * (one if options.per_channel else 1) for one in rest if one)


def hidden(parts: list[Part], ratio: float) -> list[Part]:
    """EDSR whose blocks have that share of channels inside, and no bias there."""
    made = []
    for part in parts:
        layer = part.layer
        if part.converted and layer.name.endswith("conv1"):
            layer = dataclasses.replace(layer, outputs=intrinsic_count(layer.outputs, ratio), bias=False)
        elif part.converted:
            layer = dataclasses.replace(layer, inputs=intrinsic_count(layer.inputs, ratio))
        made.append(dataclasses.replace(part, layer=layer))
    return made


def uniform_width(shape: Backbone, parameters: int) -> int:
    """The width of all layers with which an EDSR has the number of parameters nearest to a given one."""

    def size(width: int) -> int:
        return total(dense(dataclasses.replace(shape, features=width), 1, 1)).parameters

    return min(range(1, shape.features + 1), key=lambda width: abs(size(width) - parameters))


def _conv(name: str, inputs: int, outputs: int, positions: int, kernel: int = 3) -> Layer:
    return Layer(name, "conv", inputs, outputs, kernel, 1, True, positions)


def _upsampler(name: str, features: int, factor: int, pixels: int) -> list[Layer]:
    """Convolutions of an up-sampler; factor 4 takes two steps of 2."""
    found, side = [], 1
    for step in [2, 2] if factor == 4 else [factor]:
        found.append(_conv(f"{name}.{len(found)}", features, step**2 * features, side**2 * pixels))
        side *= step
    return found


def _edsr(shape: Backbone, pixels: int) -> list[Part]:
    n, factor = shape.features, shape.factor
    blocks = [
        Part(_conv(f"body.{i}.{name}", n, n, pixels), converted=True)
        for i in range(shape.blocks)
        for name in ("conv1", "conv2")
    ]
    outer = [_conv("head", RGB, n, pixels), _conv("body_end", n, n, pixels), *_upsampler("upsampler", n, factor, pixels),
             _conv("last", n, RGB, factor**2 * pixels)]  # fmt: skip
    return [*blocks, *map(Part, outer)]


def _rdn(shape: Backbone, pixels: int) -> list[Part]:
    n, count, factor = shape.features, shape.convs, shape.factor
    parts = []
    for i in range(shape.blocks):
        parts += [Part(_conv(f"body.{i}.convs.{j}", n * (j + 1), n, pixels), converted=True) for j in range(count)]
        parts.append(Part(_conv(f"body.{i}.fusion", n * (count + 1), n, pixels, 1)))
    outer = [_conv("shallow", RGB, n, pixels), _conv("second", n, n, pixels), _conv("fusion.0", shape.blocks * n, n, pixels, 1),
             _conv("fusion.1", n, n, pixels), *_upsampler("upsampler", n, factor, pixels),
             _conv("last", n, RGB, factor**2 * pixels)]  # fmt: skip
    return [*parts, *map(Part, outer)]


def _carn(shape: Backbone, pixels: int) -> list[Part]:
    n, factor = shape.features, shape.factor
    units = [
        Part(_conv(f"body.{i}.{j}.conv{k}", n, n, pixels), converted=True)
        for i in range(shape.blocks) for j in range(UNITS) for k in (1, 2)
    ]  # fmt: skip
    inner = [_conv(f"body.{i}.fusions.{j}", n * (j + 2), n, pixels, 1) for i in range(shape.blocks) for j in range(UNITS)]
    outer = [_conv(f"body.fusions.{i}", n * (i + 2), n, pixels, 1) for i in range(shape.blocks)]
    heads = [Part(one, used=own == factor) for own in FACTORS for one in _upsampler(f"upsamplers.{own}", n, own, pixels)]
    ends = [_conv("entry", RGB, n, pixels), _conv("exit", n, RGB, factor**2 * pixels)]
    return [*units, *map(Part, [*inner, *outer, *ends]), *heads]


def _imdn(shape: Backbone, pixels: int) -> list[Part]:
    n, quarter, narrow = shape.features, shape.features // 4, max(shape.features // REDUCTION, 1)
    parts = []
    for i in range(shape.blocks):
        sizes = [(n, n), (n - quarter, n), (n - quarter, n), (n - quarter, quarter)]
        parts += [Part(_conv(f"body.{i}.convs.{j}", *size, pixels), converted=True) for j, size in enumerate(sizes)]
        parts += [Part(_conv(f"body.{i}.squeeze", n, narrow, 1, 1)), Part(_conv(f"body.{i}.excite", narrow, n, 1, 1)),
                  Part(_conv(f"body.{i}.fusion", n, n, pixels, 1))]  # fmt: skip
    outer = [_conv("head", RGB, n, pixels), _conv("fusion", shape.blocks * n, n, pixels, 1), _conv("closing", n, n, pixels),
             _conv("upsampler", n, RGB * shape.factor**2, pixels)]  # fmt: skip
    return [*parts, *map(Part, outer)]
