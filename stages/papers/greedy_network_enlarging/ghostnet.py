"""GhostNet with any depth and width per stage; module paths as in the official PyTorch code, so its weights load by name."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.models import checks
from stages.lib.models.base import register
from stages.lib.models.geometry import Layer
from stages.papers.greedy_network_enlarging.ghost_stages import (
    BASE_DEPTHS,
    GENERATORS,
    GhostBlock,
    ghost_layers,
    ghost_stages,
    head_widths,
    stem_width,
)
from stages.papers.greedy_network_enlarging.nets import StageNet, check_sizes, share


class GhostModule(nn.Module):
    """Half of the channels by a 1 x 1 convolution, the other half by a cheap depthwise one of the first half."""

    def __init__(self, inputs: int, outputs: int, relu: bool) -> None:
        super().__init__()
        self.outputs, half = outputs, -(-outputs // 2)
        self.primary_conv = nn.Sequential(nn.Conv2d(inputs, half, 1, bias=False), nn.BatchNorm2d(half), _relu(relu))
        cheap = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.cheap_operation = nn.Sequential(cheap, nn.BatchNorm2d(half), _relu(relu))

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, outputs, H, W]."""
        primary = self.primary_conv(x)
        return torch.cat([primary, self.cheap_operation(primary)], 1)[:, : self.outputs]


class SqueezeExcite(nn.Module):
    """Channel gates: pool, reduce, ReLU, expand, hard sigmoid."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeeze, 1)
        self.conv_expand = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gated features of the same shape."""
        return x * F.hardsigmoid(self.conv_expand(F.relu(self.conv_reduce(F.adaptive_avg_pool2d(x, 1)))))


class GhostBottleneck(nn.Module):
    """Ghost module, strided depthwise convolution, SE, ghost module, shortcut; the branch is dropped at `drop_path`."""

    def __init__(self, block: GhostBlock, drop_path: float) -> None:
        super().__init__()
        self.block, self.drop_path = block, drop_path
        self.ghost1 = GhostModule(block.inputs, block.hidden, relu=True)
        if block.stride > 1:
            self.conv_dw = _depthwise(block.hidden, block)
            self.bn_dw = nn.BatchNorm2d(block.hidden)
        self.se = SqueezeExcite(block.hidden, block.squeeze) if block.squeeze else None
        self.ghost2 = GhostModule(block.hidden, block.outputs, relu=False)
        self.shortcut = nn.Sequential()
        if block.projects:
            self.shortcut = nn.Sequential(
                _depthwise(block.inputs, block), nn.BatchNorm2d(block.inputs),
                nn.Conv2d(block.inputs, block.outputs, 1, bias=False), nn.BatchNorm2d(block.outputs),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, outputs, H/stride, W/stride]."""
        h = self.ghost1(x)
        if self.block.stride > 1:
            h = self.bn_dw(self.conv_dw(h))
        if self.se is not None:
            h = self.se(h)
        h = self.ghost2(h)
        if self.training and self.drop_path:
            kept = torch.rand(len(h), 1, 1, 1, device=h.device) >= self.drop_path
            h = h * kept / (1.0 - self.drop_path)
        return h + self.shortcut(x)


class ConvBnAct(nn.Module):
    """The 1 x 1 convolution in front of the pool."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn1 = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, outputs, H, W]."""
        return F.relu(self.bn1(self.conv(x)))


@register
class GhostNet(StageNet):
    """`conv_stem`, `bn1`, `blocks.<s>.<b>`, `blocks.<S>.0`, `conv_head`, `classifier`.

    Record: `generator` 1x or large, `dropout` before the classifier, `drop_path`, of which block b of B has b / B.
    """

    kind = "ghostnet"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        generator, depths, widths = (record[key] for key in ("generator", "depths", "widths"))
        stem = stem_width(widths)
        self.conv_stem, self.bn1 = nn.Conv2d(record["input"][0], stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
        self.activation = nn.Hardswish() if generator == "large" else nn.ReLU()
        before, behind = head_widths(generator, depths, widths)
        rows, place = [], 0
        for row in ghost_stages(generator, depths, widths):
            rates = [record["drop_path"] * (place + b) / sum(depths) for b in range(len(row))]
            rows.append(nn.Sequential(*map(GhostBottleneck, row, rates)))
            place += len(row)
        last = rows[-1][-1].block.outputs
        self.blocks = nn.ModuleList([*rows, nn.Sequential(ConvBnAct(last, before))])
        self.conv_head = nn.Conv2d(before, behind, 1)
        self.dropout = nn.Dropout(record["dropout"])
        self.classifier = nn.Linear(behind, record["classes"])
        _initialise(self)
        object.__setattr__(self, "stem", nn.Sequential(self.conv_stem, self.bn1, self.activation))  # a view, not a second name

    def head(self, h: Tensor) -> Tensor:
        """Logits [N, classes]: pool, 1 x 1 convolution with bias, activation, dropout, linear."""
        h = self.activation(self.conv_head(F.adaptive_avg_pool2d(h, 1)))
        return self.classifier(self.dropout(h.flatten(1)))

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        check_sizes(record, {"generator", "dropout", "drop_path"}, cls.kind)
        if record["generator"] not in GENERATORS:
            raise checks.refuse("generator", " or ".join(GENERATORS), record["generator"])
        checks.integers(record["widths"], "widths", (len(BASE_DEPTHS),))
        for key in ("dropout", "drop_path"):
            share(record[key], key)

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer, from the record alone."""
        return ghost_layers(record)

    @classmethod
    def group(cls, name: str) -> str:
        """As for all nets; the convolution in front of the pool stands among the blocks, but is the head's."""
        found = super().group(name)
        return "head" if found == str(len(BASE_DEPTHS)) else found


def _depthwise(channels: int, block: GhostBlock) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, block.kernel, block.stride, block.kernel // 2, groups=channels, bias=False)


def _relu(wanted: bool) -> nn.Module:
    return nn.ReLU() if wanted else nn.Identity()


def _initialise(net: nn.Module) -> None:
    """The release's start: convolutions He-uniform, linear He-normal, biases 0 (section 4)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
