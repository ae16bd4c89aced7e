"""Pre-activation residual nets for small images (He et al. 2016, in the form that dcp uses).

The first block of each stage shares its BN-ReLU with the shortcut; a projection is a bare 1x1 convolution; the net
ends BN-ReLU-average-fc.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.lib.models import residual
from stages.lib.models.base import Net, initialise, register
from stages.lib.models.geometry import Canvas, Layer
from stages.lib.models.sites import Site


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv two or three times, added to the shortcut.

    With `shared` the shortcut starts after the first BN-ReLU, else before it.
    """

    def __init__(self, block: dict, shared: bool) -> None:
        super().__init__()
        self.shared, self.depth = shared, len(block["mid"]) + 1
        for i, (inputs, outputs, kernel, stride) in enumerate(residual.branch(block), start=1):
            self.add_module(f"bn{i}", nn.BatchNorm2d(inputs))
            self.add_module(f"conv{i}", residual.conv(inputs, outputs, kernel, stride))
        self.downsample = residual.conv(block["in"], block["out"], 1, block["stride"]) if residual.projects(block) else None

    def forward(self, x: Tensor) -> Tensor:
        """Features [N,out,H/stride,W/stride] from [N,in,H,W]."""
        active = F.relu(self.bn1(x))
        shortcut = active if self.shared else x
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        h = self.conv2(F.relu(self.bn2(self.conv1(active))))
        if self.depth == 3:
            h = self.conv3(F.relu(self.bn3(h)))
        return h + shortcut


@register
class PreResNet(Net):
    """Module paths: `stem.conv`, `blocks.<i>.{bn1,conv1,bn2,conv2[,bn3,conv3],downsample}`, `bn`, `fc`."""

    kind = "preresnet"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        stem = record["stem"]
        self.stem = nn.Sequential()
        self.stem.add_module(
            "conv", residual.conv(record["input"][0], stem["width"], stem["kernel"], stem["stride"], stem["padding"])
        )
        if stem["pool"]:
            self.stem.add_module("pool", nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.ModuleList(PreActivationBlock(block, shared=place == 0) for _, place, block in residual.walk(record))
        width = record["stages"][-1][-1]["out"]
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, record["classes"])
        initialise(self)

    def head(self, h: Tensor) -> Tensor:
        """Logits [N,classes]: BN, ReLU, global average, linear."""
        return self.fc(F.relu(self.bn(h)).mean((2, 3)))

    def sites(self) -> list[Site]:
        """conv1 -> bn2 -> conv2 of every block (and conv2 -> bn3 -> conv3 of bottlenecks)."""
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
        residual.stem_layers(canvas, record, "stem.conv")
        if record["stem"]["pool"]:
            canvas.shrink(3, 2, 1, "stem.pool")
        for index, (_, _, block) in enumerate(residual.walk(record)):
            _block_layers(canvas, block, f"blocks.{index}")
        width = record["stages"][-1][-1]["out"]
        canvas.norm("bn", width)
        canvas.linear("fc", width, record["classes"])
        return canvas.layers

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record with the given widths inside the blocks."""
        return residual.narrowed(record, _sites(record), widths)


def _sites(record: dict) -> list:
    return residual.block_sites(record, "blocks.{index}", norm_offset=1)


def _block_layers(canvas: Canvas, block: dict, at: str) -> None:
    before = Canvas(canvas.height, canvas.width)
    for i, (inputs, outputs, kernel, stride) in enumerate(residual.branch(block), start=1):
        canvas.norm(f"{at}.bn{i}", inputs)
        canvas.conv(f"{at}.conv{i}", inputs, outputs, kernel, stride)
    if residual.projects(block):
        before.conv(f"{at}.downsample", block["in"], block["out"], 1, block["stride"])
    canvas.layers += before.layers


def preresnet(
    blocks: list[int],
    widths: list[int],
    classes: int,
    in_channels: int = 3,
    image: int = 32,
    stem: dict | None = None,
    bottleneck: bool = False,
) -> PreResNet:
    """A dense PreResNet of `blocks[i]` blocks with `widths[i]` channels a stage, for square images of side `image`.

    `stem` may give kernel (3), stride (1), padding (kernel // 2), width (the first stage's) and pool (false: no 3x3
    max-pool).
    """
    options = {"kernel": 3, "stride": 1, "pool": False, "width": widths[0] if widths else 0} | dict(stem or {})
    unknown = options.keys() - residual.STEM_KEYS
    if unknown:
        raise StageError(
            f"stem.{sorted(unknown)[0]}: not a setting of a stem; expected one of {', '.join(sorted(residual.STEM_KEYS))}"
        )
    options.setdefault("padding", options["kernel"] // 2)
    stages = residual.stages(list(blocks), list(widths), options["width"], bottleneck)
    record = {
        "kind": PreResNet.kind,
        "input": [in_channels, image, image],
        "classes": classes,
        "stem": options,
        "stages": stages,
    }
    PreResNet.check(record)
    return PreResNet(record)


def preresnet_cifar(depth: int = 56, classes: int = 10, in_channels: int = 3, image: int = 32) -> PreResNet:
    """The CIFAR PreResNet of `depth` = 6 n + 2 layers: three stages of n basic blocks, widths 16, 32, 64."""
    if depth < 8 or (depth - 2) % 6:
        raise StageError(
            f"depth of a CIFAR PreResNet: expected 6 n + 2 (20, 32, 44, 56, 110), got {depth}; correct the params file"
        )
    return preresnet([(depth - 2) // 6] * 3, [16, 32, 64], classes, in_channels, image)
