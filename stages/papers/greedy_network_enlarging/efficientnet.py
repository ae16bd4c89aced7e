"""EfficientNet with any depth and width per group of blocks: torchvision's net, and its layers as plain numbers."""

from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.models import checks
from stages.lib.models.base import register
from stages.lib.models.geometry import Canvas, Layer
from stages.papers.greedy_network_enlarging.nets import StageNet, check_sizes, make_divisible, share

# Of B0, one entry a group of MBConv blocks (section 3.2).
BASE_DEPTHS, BASE_WIDTHS = (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)
EXPANSIONS, KERNELS, STRIDES = (1, 6, 6, 6, 6, 6, 6), (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)
DIVISOR = 8
HEAD = 4  # channels of the last convolution, in channels of the last group


@register
class EfficientNet(StageNet):
    """torchvision's EfficientNet; module paths `features.<s + 1>.<b>.block.<i>` and `classifier.1` are its.

    Record: `stem` channels, `dropout`, `drop_path` (torchvision's stochastic depth of the last block).
    """

    kind = "efficientnet"
    stage_prefix = "features."
    first_stage = 1
    stem_names = ("features.0.",)

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        from stages.lib import vision_compat

        vision_compat.install()
        from torchvision.models.efficientnet import EfficientNet as Published
        from torchvision.models.efficientnet import MBConvConfig

        rows, inputs = [], record["stem"]
        for s, (depth, width) in enumerate(zip(record["depths"], record["widths"], strict=True)):
            rows.append(MBConvConfig(EXPANSIONS[s], KERNELS[s], STRIDES[s], inputs, width, depth))
            inputs = width
        net = Published(
            rows, record["dropout"], stochastic_depth_prob=record["drop_path"], num_classes=record["classes"],
            last_channel=HEAD * inputs,
        )  # fmt: skip
        if record["input"][0] != 3:
            net.features[0][0] = nn.Conv2d(record["input"][0], record["stem"], 3, 2, 1, bias=False)
        self.features, self.classifier = net.features, net.classifier
        # Views for the common interface, without second names in the state_dict.
        object.__setattr__(self, "stem", self.features[0])
        object.__setattr__(self, "blocks", nn.ModuleList(self.features[1:-1]))

    def head(self, h: Tensor) -> Tensor:
        """Logits [N, classes]: last convolution, pool, dropout, linear."""
        return self.classifier(F.adaptive_avg_pool2d(self.features[-1](h), 1).flatten(1))

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        check_sizes(record, {"stem", "dropout", "drop_path"}, cls.kind)
        checks.integers(record["widths"], "widths", (len(BASE_DEPTHS),))
        checks.integer(record["stem"], "stem")
        for s, width in enumerate(record["widths"]):
            if width % DIVISOR:
                raise checks.refuse(f"widths[{s}]", f"a multiple of {DIVISOR}", width)
        for key in ("dropout", "drop_path"):
            share(record[key], key)

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer, from the record alone."""
        canvas = Canvas(*record["input"][1:])
        canvas.conv("features.0.0", record["input"][0], record["stem"], 3, 2)
        canvas.norm("features.0.1", record["stem"])
        inputs = record["stem"]
        for s, (depth, width) in enumerate(zip(record["depths"], record["widths"], strict=True)):
            for b in range(depth):
                _mbconv(canvas, s, inputs, width, STRIDES[s] if b == 0 else 1, f"features.{s + 1}.{b}.block")
                inputs = width
        at = f"features.{len(BASE_DEPTHS) + 1}"
        canvas.conv(f"{at}.0", inputs, HEAD * inputs, 1)
        canvas.norm(f"{at}.1", HEAD * inputs)
        canvas.linear("classifier.1", HEAD * inputs, record["classes"])
        return canvas.layers

    @classmethod
    def group(cls, name: str) -> str:
        """As for all nets; the last convolution is the head's."""
        found = super().group(name)
        return "head" if found == str(len(BASE_DEPTHS)) else found


def _mbconv(canvas: Canvas, stage: int, inputs: int, outputs: int, stride: int, at: str) -> None:
    """Expansion, depthwise convolution, SE of a quarter of the input's channels, projection."""
    hidden, place = inputs * EXPANSIONS[stage], 0
    if hidden != inputs:
        canvas.conv(f"{at}.0.0", inputs, hidden, 1)
        canvas.norm(f"{at}.0.1", hidden)
        place = 1
    canvas.conv(f"{at}.{place}.0", hidden, hidden, KERNELS[stage], stride, groups=hidden)
    canvas.norm(f"{at}.{place}.1", hidden)
    squeeze = max(1, inputs // 4)
    canvas.layers.append(Layer(f"{at}.{place + 1}.fc1", "conv", hidden, squeeze, bias=True))
    canvas.layers.append(Layer(f"{at}.{place + 1}.fc2", "conv", squeeze, hidden, bias=True))
    canvas.conv(f"{at}.{place + 2}.0", hidden, outputs, 1)
    canvas.norm(f"{at}.{place + 2}.1", outputs)


def stem_of(widths: list[int]) -> int:
    """The stem that goes with a first group in the search: twice its channels, as in B0."""
    return make_divisible(2 * widths[0], DIVISOR)
