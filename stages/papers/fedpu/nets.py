"""The nets of the official code, MNIST's CNN and ResNet9, and an MLP for 8x8 digits. All take [n, C, H, W] to logits."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib.errors import StageError
from stages.papers.fedpu.settings import Net


class Mlp(nn.Sequential):
    """One hidden layer of ReLUs."""

    def __init__(self, shape: list[int], classes: int, width: int) -> None:
        inputs = shape[0] * shape[1] * shape[2]
        super().__init__(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))


class Cnn(nn.Module):
    """3 and 20 filters of 5x5, each with 2x2 pooling, one hidden layer; 18,158 parameters with width 50 on MNIST."""

    def __init__(self, shape: list[int], classes: int, width: int, dropout: float) -> None:
        super().__init__()
        sides = [(side - 4) // 2 for side in shape[1:]]
        places = ((sides[0] - 4) // 2) * ((sides[1] - 4) // 2)
        if min(sides) < 6:
            raise StageError(f"params.net.kind=cnn: images of {shape[1]} x {shape[2]} are too small; 16 x 16 or more")
        self.conv1, self.conv2 = nn.Conv2d(shape[0], 3, 5), nn.Conv2d(3, 20, 5)
        self.fc1, self.fc2 = nn.Linear(20 * places, width), nn.Linear(width, classes)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes]."""
        h = functional.relu(functional.max_pool2d(self.conv1(x), 2))
        h = functional.dropout2d(self.conv2(h), self.dropout, self.training)
        h = functional.relu(functional.max_pool2d(h, 2)).flatten(1)
        h = functional.dropout(functional.relu(self.fc1(h)), self.dropout, self.training)
        return self.fc2(h)


def _block(inputs: int, outputs: int, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class ResNet9(nn.Module):
    """Widths w, 2w, 2w twice, 4w, 8w, 8w twice; convolutions with bias and BN; 6,575,370 parameters with w = 64."""

    def __init__(self, shape: list[int], classes: int, width: int) -> None:
        super().__init__()
        w = width
        if min(shape[1:]) < 8:
            raise StageError(f"params.net.kind=resnet9: images of {shape[1]} x {shape[2]} are too small; 8 x 8 or more")
        self.stem = nn.Sequential(_block(shape[0], w), _block(w, 2 * w, pool=True))
        self.first = nn.Sequential(_block(2 * w, 2 * w), _block(2 * w, 2 * w))
        self.middle = nn.Sequential(_block(2 * w, 4 * w, pool=True), _block(4 * w, 8 * w, pool=True))
        self.second = nn.Sequential(_block(8 * w, 8 * w), _block(8 * w, 8 * w))
        self.head = nn.Linear(8 * w, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes]."""
        h = self.stem(x)
        h = self.middle(h + self.first(h))
        h = h + self.second(h)
        return self.head(functional.max_pool2d(h, h.shape[2:]).flatten(1))


def record(net: Net, shape: list[int], classes: int) -> dict[str, Any]:
    """What a net is rebuilt from, as plain JSON values."""
    return {"kind": f"fedpu {net.kind}", "input": list(shape), "classes": classes, "width": net.width, "dropout": net.dropout}


def build(about: dict[str, Any]) -> nn.Module:
    """The net of a record, with fresh weights."""
    kind, shape, classes, width = (about[key] for key in ("kind", "input", "classes", "width"))
    if kind == "fedpu mlp":
        return Mlp(shape, classes, width)
    if kind == "fedpu cnn":
        return Cnn(shape, classes, width, about["dropout"])
    return ResNet9(shape, classes, width)


def state_bytes(net: nn.Module) -> int:
    """Bytes of a state as it is sent: parameters and buffers."""
    return sum(value.numel() * value.element_size() for value in net.state_dict().values())


def meta(about: dict[str, Any]) -> nn.Module:
    """The net without memory: shapes only."""
    with torch.device("meta"):
        return build(about)
