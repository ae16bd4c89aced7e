"""torchvision beside a CPU-only torch: imports, models, transforms, non-maximum suppression."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from stages.lib import vision_compat


def slow_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    """By the definition, one pair of boxes at a time."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i].item()):
        x1, y1, x2, y2 = boxes[index].tolist()
        clear = True
        for other in kept:
            a1, b1, a2, b2 = boxes[other].tolist()
            inter = max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
            union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inter
            clear = clear and not inter / union > threshold
        if clear:
            kept.append(index)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_nms_agrees_with_the_definition(threshold):
    from torchvision.ops import nms

    draw = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 30, (60, 2), generator=draw).float()
    boxes = torch.cat([corner, corner + torch.randint(1, 20, (60, 2), generator=draw)], 1)
    scores = torch.randperm(60, generator=draw).float()
    wanted = slow_nms(boxes, scores, threshold)
    assert nms(boxes, scores, threshold).tolist() == wanted
    assert vision_compat.nms(boxes, scores, threshold).tolist() == wanted


def test_nms_of_no_boxes_and_of_wrong_shapes():
    from torchvision.ops import batched_nms, nms

    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    with pytest.raises(RuntimeError):
        nms(torch.zeros(3, 4), torch.zeros(2), 0.5)
    same = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 9.0]])
    assert batched_nms(same, torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0.5).tolist() == [1, 0]
    assert batched_nms(same, torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0.5).tolist() == [1]


def test_models_and_transforms_work():
    from torchvision import models
    from torchvision.transforms import v2

    assert models.resnet18(num_classes=4)(torch.zeros(2, 3, 64, 64)).shape == (2, 4)
    assert v2.Compose([v2.RandomCrop(28), v2.RandomHorizontalFlip()])(torch.zeros(3, 32, 32)).shape == (3, 28, 28)


def test_twice_is_as_good_as_once():
    assert vision_compat.install() == vision_compat.install()


def test_nothing_is_declared_where_the_operators_exist():
    """A process in which another library has brought nms already, as a fitting build does."""
    code = """
import torch
real = torch.library.Library("torchvision", "DEF")
real.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from stages.lib import runtime, vision_compat
assert vision_compat._LIBRARY is None and vision_compat.install() is False
"""
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert end.returncode == 0, end.stderr
