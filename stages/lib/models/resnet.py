"""Residual nets in torchvision's layout (He et al. 2015, stride on the 3x3).

The state_dict has torchvision's names, so published weights load by name.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.lib.models import residual
from stages.lib.models.base import Net, initialise, register
from stages.lib.models.geometry import Canvas, Layer
from stages.lib.models.sites import Site

DEPTHS = {18: ([2, 2, 2, 2], False), 34: ([3, 4, 6, 3], False), 50: ([3, 4, 6, 3], True), 101: ([3, 4, 23, 3], True)}


class PostActivationBlock(nn.Module):
    """conv-BN two or three times with ReLUs between, added to the shortcut, then ReLU."""

    def __init__(self, block: dict) -> None:
        super().__init__()
        self.depth = len(block["mid"]) + 1
        for i, (inputs, outputs, kernel, stride) in enumerate(residual.branch(block), start=1):
            self.add_module(f"conv{i}", residual.conv(inputs, outputs, kernel, stride))
            self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
        self.downsample = None
        if residual.projects(block):
            self.downsample = nn.Sequential(
                residual.conv(block["in"], block["out"], 1, block["stride"]), nn.BatchNorm2d(block["out"])
            )

    def forward(self, x: Tensor) -> Tensor:
        """Features [N,out,H/stride,W/stride] from [N,in,H,W]."""
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.depth == 3:
            h = self.bn3(self.conv3(F.relu(h)))
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


@register
class ResNet(Net):
    """Module paths: `conv1`, `bn1`, `layer<s>.<b>.{conv1,bn1,...,downsample.0,downsample.1}`, `fc`."""

    kind = "resnet"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        stem = record["stem"]
        self.conv1 = residual.conv(record["input"][0], stem["width"], stem["kernel"], stem["stride"], stem["padding"])
        self.bn1 = nn.BatchNorm2d(stem["width"])
        for s, stage in enumerate(record["stages"], start=1):
            self.add_module(f"layer{s}", nn.Sequential(*map(PostActivationBlock, stage)))
        self.fc = nn.Linear(record["stages"][-1][-1]["out"], record["classes"])
        initialise(self)
        # Views for the common interface. Registered in the usual way they would add a second name for every weight to
        # the state_dict.
        pool = [nn.MaxPool2d(3, 2, 1)] if stem["pool"] else []
        object.__setattr__(self, "stem", nn.Sequential(self.conv1, self.bn1, nn.ReLU(), *pool))
        rows = [getattr(self, f"layer{s}") for s in range(1, len(record["stages"]) + 1)]
        object.__setattr__(self, "blocks", nn.ModuleList(block for row in rows for block in row))

    def head(self, h: Tensor) -> Tensor:
        """Logits [N,classes]: global average, linear."""
        return self.fc(F.adaptive_avg_pool2d(h, 1).flatten(1))

    def sites(self) -> list[Site]:
        """conv1 -> bn1 -> conv2 of every block (and conv2 -> bn2 -> conv3 of bottlenecks)."""
        return [site for *_, site in _sites(self._record)]

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net and its input is large enough."""
        residual.check(record)
        cls.layers(record)

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer, from the record alone."""
        canvas = Canvas(*record["input"][1:])
        residual.stem_layers(canvas, record, "conv1")
        canvas.norm("bn1", record["stem"]["width"])
        if record["stem"]["pool"]:
            canvas.shrink(3, 2, 1, "stem.pool")
        for s, b, block in residual.walk(record):
            _block_layers(canvas, block, f"layer{s + 1}.{b}")
        canvas.linear("fc", record["stages"][-1][-1]["out"], record["classes"])
        return canvas.layers

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record with the given widths inside the blocks."""
        return residual.narrowed(record, _sites(record), widths)


def _sites(record: dict) -> list:
    return residual.block_sites(record, "layer{stage}.{place}", norm_offset=0)


def _block_layers(canvas: Canvas, block: dict, at: str) -> None:
    before = Canvas(canvas.height, canvas.width)
    for i, (inputs, outputs, kernel, stride) in enumerate(residual.branch(block), start=1):
        canvas.conv(f"{at}.conv{i}", inputs, outputs, kernel, stride)
        canvas.norm(f"{at}.bn{i}", outputs)
    if residual.projects(block):
        before.conv(f"{at}.downsample.0", block["in"], block["out"], 1, block["stride"])
        before.norm(f"{at}.downsample.1", block["out"])
    canvas.layers += before.layers


def resnet(depth: int = 18, classes: int = 1000, image: int = 224, in_channels: int = 3) -> ResNet:
    """The ImageNet ResNet of depth 18, 34, 50 or 101 for square images of side `image`.

    The head averages over what is left of the picture, so other sides run too; `image` decides the counted MACs.
    """
    if depth not in DEPTHS:
        raise StageError(
            f"depth of a ResNet: expected one of {', '.join(map(str, DEPTHS))}, got {depth}; correct the params file"
        )
    blocks, bottleneck = DEPTHS[depth]
    stem = {"width": 64, "kernel": 7, "stride": 2, "padding": 3, "pool": True}
    stages = residual.stages(blocks, [64, 128, 256, 512], 64, bottleneck)
    record = {
        "kind": ResNet.kind,
        "input": [in_channels, image, image],
        "classes": classes,
        "stem": stem,
        "stages": stages,
    }
    ResNet.check(record)
    return ResNet(record)
