"""Plain stages of 3 x 3 convolutions, the scaled-down search space."""

from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.models.base import initialise, register
from stages.lib.models.geometry import Canvas, Layer
from stages.papers.greedy_network_enlarging.nets import StageNet, check_sizes


@register
class PlainStages(StageNet):
    """conv-BN-ReLU blocks, stride 2 between stages, global average, linear: `blocks.<s>.<b>.{0,1}`, `classifier`."""

    kind = "plain_stages"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        self.stem = nn.Identity()
        rows, inputs = [], record["input"][0]
        for stage, (depth, width) in enumerate(zip(record["depths"], record["widths"], strict=True)):
            row = nn.Sequential()
            for b in range(depth):
                conv = nn.Conv2d(inputs, width, 3, _stride(stage, b), 1, bias=False)
                row.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU()))
                inputs = width
            rows.append(row)
        self.blocks = nn.ModuleList(rows)
        self.classifier = nn.Linear(inputs, record["classes"])
        initialise(self)

    def head(self, h: Tensor) -> Tensor:
        """Logits [N, classes] of the last stage's features [N, w, H, W]."""
        return self.classifier(F.adaptive_avg_pool2d(h, 1).flatten(1))

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        check_sizes(record, set(), cls.kind)

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Geometry of every parametric layer, from the record alone."""
        canvas, inputs = Canvas(*record["input"][1:]), record["input"][0]
        for stage, (depth, width) in enumerate(zip(record["depths"], record["widths"], strict=True)):
            for b in range(depth):
                canvas.conv(f"blocks.{stage}.{b}.0", inputs, width, 3, _stride(stage, b))
                canvas.norm(f"blocks.{stage}.{b}.1", width)
                inputs = width
        canvas.linear("classifier", inputs, record["classes"])
        return canvas.layers


def _stride(stage: int, block: int) -> int:
    return 2 if stage > 0 and block == 0 else 1
