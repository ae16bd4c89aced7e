"""The nets of the paper's experiments, with ReLU."""

from torch import nn

from stages.lib.errors import StageError
from stages.lib.models import construct

SMALL = {
    "VGG-16 (CIFAR)": ("vgg_cifar", {"depth": 16}),
    "PreResNet-110 (CIFAR)": ("preresnet_cifar", {"depth": 110}),
}
TORCHVISION = {"ResNet-50 (torchvision)": "resnet50", "MobileNetV2": "mobilenet_v2", "VGG-16": "vgg16"}
PAPER_NETS = (*SMALL, *TORCHVISION)


def paper_net(name: str, classes: int, image: int) -> nn.Module:
    """A net by its name, freshly initialised, for square colour images. StageError for another name.

    torchvision's residual blocks call one ReLU module at several places.
    """
    if name not in PAPER_NETS:
        raise StageError(f"net {str(name)[:40]}: expected one of {', '.join(PAPER_NETS)}")
    if name in SMALL:
        family, options = SMALL[name]
        return construct(family, **options, classes=classes, image=image)
    from stages.lib import vision_compat

    vision_compat.install()  # before torchvision
    from torchvision import models

    return getattr(models, TORCHVISION[name])(num_classes=classes)
