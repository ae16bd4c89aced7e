"""Nets that know their own record, blocks and prunable sites. Importing this package does not import torchvision."""

from collections.abc import Callable
from typing import Any

from stages.lib.errors import StageError
from stages.lib.models.base import Net, build, family, rebuild, register
from stages.lib.models.preresnet import PreResNet, preresnet, preresnet_cifar
from stages.lib.models.resnet import ResNet, resnet
from stages.lib.models.sites import Site
from stages.lib.models.vgg import VGG, vgg, vgg19_bn_cifar, vgg_cifar

# The names a params file may give a net; a list here, so that no params file can name code to import.
# All take `classes`, `in_channels` and `image` (side in pixels), which follow from the data.
CONSTRUCTORS: dict[str, Callable[..., Net]] = {
    "preresnet": preresnet,
    "preresnet_cifar": preresnet_cifar,
    "resnet": resnet,
    "vgg": vgg,
    "vgg_cifar": vgg_cifar,
}


def construct(name: str, **options: Any) -> Net:
    """A dense net by the name and options of a params file; StageError for an unknown name or option."""
    if name not in CONSTRUCTORS:
        raise StageError(
            f"net.name: expected one of {', '.join(CONSTRUCTORS)}, got {str(name)[:60]!r}; correct the params file"
        )
    try:
        return CONSTRUCTORS[name](**options)
    except TypeError as error:
        raise StageError(f"net {name}: {error}; correct its options in the params file") from error


__all__ = [
    "CONSTRUCTORS",
    "VGG",
    "Net",
    "PreResNet",
    "ResNet",
    "Site",
    "build",
    "construct",
    "family",
    "preresnet",
    "preresnet_cifar",
    "rebuild",
    "register",
    "resnet",
    "vgg",
    "vgg19_bn_cifar",
    "vgg_cifar",
]
