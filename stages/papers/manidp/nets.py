"""The dense nets: CIFAR's ResNets of the official code, whose 1x1 shortcuts have no normalisation."""

from typing import Any

from torch import nn

from stages.lib import models
from stages.lib.errors import StageError
from stages.lib.models import residual
from stages.lib.models.base import Net, register
from stages.lib.models.geometry import Layer
from stages.lib.models.resnet import ResNet


@register
class BareShortcutResNet(ResNet):
    """A ResNet of basic blocks whose projections are a bare convolution `layer<s>.<b>.downsample.0`."""

    kind = "resnet_bare_shortcut"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        for block in self.blocks:
            if block.downsample is not None:
                block.downsample = nn.Sequential(block.downsample[0])

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer, from the record alone."""
        return [layer for layer in ResNet.layers(record) if not layer.name.endswith("downsample.1")]


def resnet_bare(
    blocks: list[int], widths: list[int], classes: int = 10, image: int = 32, in_channels: int = 3,
    stem: dict[str, int] | None = None,
) -> BareShortcutResNet:  # fmt: skip
    """Stages of `blocks[i]` basic blocks of `widths[i]`; `stem` may give another `kernel` and `stride` than 3 and 1."""
    first = {"kernel": 3, "stride": 1, **(stem or {})}
    if first.keys() != {"kernel", "stride"}:
        raise StageError(
            f"stem: expected the keys kernel and stride, got {', '.join(map(str, first))}; correct the params file"
        )
    if not widths:
        raise StageError("widths: expected one width for each stage, got none; correct the params file")
    record = {
        "kind": BareShortcutResNet.kind,
        "input": [in_channels, image, image],
        "classes": classes,
        "stem": {"width": widths[0], **first, "padding": first["kernel"] // 2, "pool": False},
        "stages": residual.stages(blocks, widths, widths[0]),
    }
    BareShortcutResNet.check(record)
    return BareShortcutResNet(record)


def resnet_cifar(depth: int = 56, classes: int = 10, image: int = 32, in_channels: int = 3) -> BareShortcutResNet:
    """The paper's ResNet-20, -32, -56 for CIFAR: three stages of (depth - 2) / 6 blocks, widths 16, 32, 64."""
    if depth < 8 or (depth - 2) % 6:
        raise StageError(f"depth of a CIFAR ResNet: expected 6 n + 2 with n of 1 or more, got {depth}; correct the params file")
    return resnet_bare([(depth - 2) // 6] * 3, [16, 32, 64], classes, image, in_channels)


CONSTRUCTORS = {"resnet_bare": resnet_bare, "resnet_cifar": resnet_cifar}


def construct(name: str, **options: Any) -> Net:
    """A dense net by the name and options of a params file, of this paper or of lib; StageError for a wrong one."""
    if name not in CONSTRUCTORS:
        if name not in models.CONSTRUCTORS:
            known = ", ".join([*CONSTRUCTORS, *models.CONSTRUCTORS])
            raise StageError(f"net.name: expected one of {known}, got {str(name)[:60]!r}; correct the params file")
        return models.construct(name, **options)
    try:
        return CONSTRUCTORS[name](**options)
    except TypeError as error:
        raise StageError(f"net {name}: {error}; correct its options in the params file") from error
