"""The paper's detectors from torchvision's parts: SSD300 with a ResNet-50, Mask R-CNN with a ResNet-50 and FPN.

Without pre-trained weights torchvision gives the backbone a trainable BN, which CHEX needs.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from stages.lib import vision_compat  # noqa: F401  before torchvision
from stages.lib.errors import StageError

# Outputs and widths of the five layers behind the backbone, and whether they halve the picture (NVIDIA's SSD).
EXTRA = [(512, 256, True), (512, 256, True), (256, 128, True), (256, 128, False), (256, 128, False)]
RATIOS = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
SCALES = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
STRIDES = [8, 16, 32, 64, 100, 300]


class SsdFeatures(nn.Module):
    """ResNet-50 up to its third stage, which keeps stride 8, and five smaller maps: 38, 19, 10, 5, 3, 1 pixels at 300."""

    def __init__(self) -> None:
        from torchvision.models import resnet50

        super().__init__()
        whole = resnet50(weights=None)
        names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"]
        self.body = nn.Sequential(OrderedDict((name, getattr(whole, name)) for name in names))
        first = self.body.layer3[0]
        for conv in (first.conv2, first.downsample[0]):
            conv.stride = (1, 1)
        widths = [1024, *(out for out, _, _ in EXTRA)]
        self.extra = nn.ModuleList(_extra(i, mid, out, half) for i, (out, mid, half) in zip(widths, EXTRA))
        self.out_channels = widths

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Feature maps "0" to "5", largest first, of images [N, 3, 300, 300]."""
        maps = [self.body(x)]
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        return OrderedDict((str(i), h) for i, h in enumerate(maps))


def _extra(inputs: int, mid: int, out: int, half: bool) -> nn.Sequential:
    last = nn.Conv2d(mid, out, 3, stride=2 if half else 1, padding=1 if half else 0, bias=False)
    first = nn.Conv2d(inputs, mid, 1, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(mid), nn.ReLU(), last, nn.BatchNorm2d(out), nn.ReLU())


def ssd300_resnet50(classes: int, image: int) -> nn.Module:
    """SSD300 for `classes` classes, the background included; the image side must be 300."""
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    if image != 300:
        raise StageError(f"image={image}: SSD300 takes images of side 300")
    boxes = DefaultBoxGenerator(RATIOS, scales=SCALES, steps=STRIDES)
    return SSD(SsdFeatures(), boxes, (image, image), classes)


def maskrcnn_resnet50_fpn(classes: int, image: int) -> nn.Module:
    """Mask R-CNN for `classes` classes, the background included; the shorter side of an image becomes `image` pixels."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn as build

    return build(weights=None, weights_backbone=None, num_classes=classes, min_size=image, max_size=image * 5 // 3)


DETECTORS: dict[str, Callable[[int, int], nn.Module]] = {
    "ssd300_resnet50": ssd300_resnet50,
    "maskrcnn_resnet50_fpn": maskrcnn_resnet50_fpn,
}


def detector(name: str, classes: int, image: int) -> nn.Module:
    """A detector by its name in DETECTORS; StageError for another."""
    if name not in DETECTORS:
        raise StageError(f"detector {name}: expected one of {', '.join(DETECTORS)}")
    return DETECTORS[name](classes, image)


def scene(classes: int, image: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """An image of noise [3, image, image] with two objects: boxes [2, 4], labels [2] from 1, masks [2, image, image]."""
    boxes = torch.tensor([[0.1, 0.1, 0.6, 0.5], [0.4, 0.3, 0.9, 0.95]]) * image
    masks = torch.zeros(2, image, image, dtype=torch.uint8)
    for mask, box in zip(masks, boxes.long().tolist()):
        mask[box[1] : box[3], box[0] : box[2]] = 1
    labels = torch.randint(1, classes, (2,), generator=generator)
    return torch.rand(3, image, image, generator=generator), {"boxes": boxes, "labels": labels, "masks": masks}
