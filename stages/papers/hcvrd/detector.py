"""The nets of the paper's scale, as torchvision has them: VGG-16 for features, Faster R-CNN for boxes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stages.lib import vision_compat
from stages.papers.hcvrd.boxes import align


def vgg16() -> nn.Module:
    """VGG-16 with random weights."""
    vision_compat.install()
    from torchvision.models import vgg16

    return vgg16(weights=None, init_weights=False)


def conv5(net: nn.Module) -> nn.Module:
    """Its convolutions up to conv5's last, 16 pixels a cell, without the pool behind them."""
    return net.features[:-1]


def faster_rcnn(size: int = 800, proposals: int = 1000) -> nn.Module:
    """Faster R-CNN with a ResNet-50 and a feature pyramid, random weights, for COCO's 91 classes (person is 1).

    proposals: regions that are classified, and that a level of the pyramid may propose, when it is asked.
    """
    absent = vision_compat.install()
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import poolers

    if absent:  # torchvision's own torch code of it is compiled at its first call, which takes half a minute
        poolers.roi_align = aligned
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    return FasterRCNN(
        backbone, 91, min_size=size, max_size=2 * size, rpn_pre_nms_top_n_test=proposals, rpn_post_nms_top_n_test=proposals
    )


BUILDERS: dict[str, Callable[[], nn.Module]] = {"VGG-16": vgg16, "Faster R-CNN, ResNet-50 FPN": faster_rcnn}


def aligned(
    input: Tensor, boxes: Tensor, output_size: tuple[int, int], spatial_scale: float = 1.0, sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:  # fmt: skip
    """torchvision.ops.roi_align of rois [K, 5] (place, box) for square outputs, by grid sampling."""
    if len(boxes) == 0:
        return input.new_zeros(0, input.shape[1], *output_size)
    scaled = boxes[:, 1:] * spatial_scale
    if not aligned:  # a box is a pixel wide at least, and pixels' centres are whole numbers
        low = scaled[:, :2]
        scaled = torch.cat([low, torch.maximum(scaled[:, 2:], low + 1)], 1) + 0.5
    return align(input, scaled, boxes[:, 0].long(), output_size[0], max(sampling_ratio, 1))
