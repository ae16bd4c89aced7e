"""The backbones: a few plain convolutions for small images, and the wide residual net of the official code (WRN-28-10).

Both are `stages.lib.models` nets, so that weights are stored with a record and MACs have a closed form. Convolutions have
biases. Nothing of them is pruned: they have no sites.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib.models import Net, Site, checks, register
from stages.lib.models.geometry import Canvas, Layer
from stages.papers.dependency_maximization_fsl.settings import Net as NetParams

FINAL_MOMENTUM = 0.9  # of the last BN in the official code
STRIDES = (1, 2, 2)


class FeatureNet(Net):
    """A net whose features (N, d) feed one linear layer."""

    width: int  # d

    def features(self, x: Tensor) -> Tensor:
        """(N, d) of images (N, C, H, W)."""
        return self.pooled(self.segment(self.stem(x), 0))

    def head(self, h: Tensor) -> Tensor:
        """Logits of the base classes."""
        return self.fc(self.pooled(h))

    def sites(self) -> list[Site]:
        """None: backbones stay whole."""
        return []

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record itself: nothing can be narrowed."""
        return record


@register
class ConvNet(FeatureNet):
    """Blocks conv3x3-BN-ReLU, all but the last followed by a 2x2 max-pool, then an adaptive average pool."""

    kind = "few-shot conv"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        inputs, self.pool = record["input"][0], record["pool"]
        self.stem, self.blocks = nn.Identity(), nn.ModuleList()
        for place, width in enumerate(record["widths"]):
            last = place == len(record["widths"]) - 1
            block = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
            self.blocks.append(block if last else block.append(nn.MaxPool2d(2)))
            inputs = width
        self.fc = nn.Linear(inputs * self.pool**2, record["classes"])
        _initialise(self)

    def pooled(self, h: Tensor) -> Tensor:
        """Features (N, width * pool^2)."""
        return functional.adaptive_avg_pool2d(h, self.pool).flatten(1)

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        checks.keys(record, {"kind", "input", "classes", "widths", "pool"}, "few-shot conv")
        checks.integers(record["input"], "input", (3,))
        checks.integers(record["widths"], "widths")
        checks.integer(record["pool"], "pool")
        checks.integer(record["classes"], "classes", 2)
        if min(record["input"][1:]) >> (len(record["widths"]) - 1) < 1:
            raise checks.refuse("widths", f"few enough blocks for {record['input'][1:]} pixels", len(record["widths"]))

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer."""
        canvas, inputs = Canvas(*record["input"][1:]), record["input"][0]
        for place, width in enumerate(record["widths"]):
            canvas.conv(f"blocks.{place}.0", inputs, width, 3, 1, bias=True)
            canvas.norm(f"blocks.{place}.1", width)
            if place < len(record["widths"]) - 1:
                canvas.shrink(2, 2, 0, f"blocks.{place}.3")
            inputs = width
        canvas.linear("fc", inputs * record["pool"] ** 2, record["classes"])
        return canvas.layers


class WideBlock(nn.Module):
    """BN-ReLU-conv3x3, BN-ReLU-conv3x3 with the stride, added to the raw input or its 1x1 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1)
        self.shortcut = nn.Conv2d(inputs, width, 1, stride=stride) if stride > 1 or inputs != width else None

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, width, H/stride, W/stride)."""
        h = self.conv2(functional.relu(self.bn2(self.conv1(functional.relu(self.bn1(x))))))
        return h + (x if self.shortcut is None else self.shortcut(x))


@register
class WideResidual(FeatureNet):
    """Stem conv3x3, three stages of pre-activation blocks with strides 1, 2, 2, then BN, ReLU and the global average."""

    kind = "few-shot wide residual"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        first, *widths = record["widths"]
        self.stem, self.blocks, inputs = nn.Conv2d(record["input"][0], first, 3, padding=1), nn.ModuleList(), first
        for width, stride in zip(widths, STRIDES, strict=True):
            for place in range(record["blocks"]):
                self.blocks.append(WideBlock(inputs, width, stride if place == 0 else 1))
                inputs = width
        self.bn, self.fc = nn.BatchNorm2d(inputs, momentum=FINAL_MOMENTUM), nn.Linear(inputs, record["classes"])
        _initialise(self)

    def pooled(self, h: Tensor) -> Tensor:
        """Features (N, last width)."""
        return functional.relu(self.bn(h)).mean((2, 3))

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        checks.keys(record, {"kind", "input", "classes", "widths", "blocks"}, "few-shot wide residual")
        checks.integers(record["input"], "input", (3,))
        checks.integers(record["widths"], "widths", (4,))
        checks.integer(record["blocks"], "blocks")
        checks.integer(record["classes"], "classes", 2)

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer."""
        canvas = Canvas(*record["input"][1:])
        first, *widths = record["widths"]
        canvas.conv("stem", record["input"][0], first, 3, 1, bias=True)
        inputs, number = first, 0
        for width, stride in zip(widths, STRIDES, strict=True):
            for place in range(record["blocks"]):
                _wide_layers(canvas, f"blocks.{number}", inputs, width, stride if place == 0 else 1)
                inputs, number = width, number + 1
        canvas.norm("bn", inputs)
        canvas.linear("fc", inputs, record["classes"])
        return canvas.layers


def _wide_layers(canvas: Canvas, at: str, inputs: int, width: int, stride: int) -> None:
    before = Canvas(canvas.height, canvas.width)
    canvas.norm(f"{at}.bn1", inputs)
    canvas.conv(f"{at}.conv1", inputs, width, 3, 1, bias=True)
    canvas.norm(f"{at}.bn2", width)
    canvas.conv(f"{at}.conv2", width, width, 3, stride, bias=True)
    if stride > 1 or inputs != width:
        before.conv(f"{at}.shortcut", inputs, width, 1, stride, bias=True)
    canvas.layers += before.layers


def _initialise(net: nn.Module) -> None:
    """He's normal weights for convolutions, zero biases; the linear layer keeps torch's own."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)


def record_of(params: NetParams, channels: int, classes: int) -> dict:
    """The record of a net for `channels` colours and so many base classes."""
    shared = {"input": [channels, params.side, params.side], "classes": classes, "widths": list(params.widths)}
    if params.kind == "conv":
        return {"kind": ConvNet.kind, **shared, "pool": params.pool}
    return {"kind": WideResidual.kind, **shared, "blocks": params.blocks}


@torch.no_grad()
def extract(net: FeatureNet, x: Tensor, device: torch.device | str = "cpu", batch: int = 200) -> Tensor:
    """Features (N, d) on the CPU of images (N, C, H, W), in eval mode: the net stays as it is."""
    net.to(device).eval()
    return torch.cat([net.features(x[start : start + batch].to(device)).cpu() for start in range(0, len(x), batch)])
