"""What the released recipe does to an image of ImageNet (section 4): bicubic crops, AutoAugment, the usual moments."""

from collections.abc import Callable
from typing import Any

from stages.lib.images import MEAN, STD

View = Callable[[Any], Any]


def train_view(side: int, autoaugment: bool) -> View:
    """RGB image to float32 [3, side, side]: random crop, mirror, AutoAugment's ImageNet policy (torch's generator)."""
    transforms, bicubic = _transforms()
    parts = [transforms.RandomResizedCrop(side, interpolation=bicubic), transforms.RandomHorizontalFlip()]
    if autoaugment:
        parts.append(transforms.AutoAugment(transforms.AutoAugmentPolicy.IMAGENET))
    return transforms.Compose([*parts, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def eval_view(side: int, crop: float) -> View:
    """RGB image to float32 [3, side, side]: the shorter side to floor(side / crop), the middle cut out."""
    transforms, bicubic = _transforms()
    parts = [transforms.Resize(int(side / crop), interpolation=bicubic), transforms.CenterCrop(side)]
    return transforms.Compose([*parts, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def _transforms() -> tuple[Any, Any]:
    """torchvision.transforms, imported after what it lacks here, and its name for bicubic."""
    from stages.lib import vision_compat

    vision_compat.install()
    from torchvision import transforms

    return transforms, transforms.InterpolationMode.BICUBIC
