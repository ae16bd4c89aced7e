"""A residual net with a gate in front of each convolution of its basic blocks."""

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.lib.models import build, checks, family, rebuild
from stages.lib.models.base import Net, register
from stages.lib.models.geometry import Layer
from stages.lib.models.resnet import PostActivationBlock, ResNet
from stages.lib.models.sites import Site
from stages.papers.manidp.gates import Gate, hidden_width


@dataclass
class Trace:
    """What a forward pass leaves for the losses and the cost: one entry a gate, in forward order, each [N, channels].

    `features` are averaged over the map before the mask is applied; those of second convolutions are signed (no ReLU).
    """

    masks: list[Tensor] = field(default_factory=list)
    saliencies: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)

    def note(self, mask: Tensor, saliency: Tensor, features: Tensor) -> None:
        """Add a gate's entry."""
        self.masks.append(mask)
        self.saliencies.append(saliency)
        self.features.append(features)


@register
class GatedNet(Net):
    """`net` with two gates a block (`gates.<2 b>` and `gates.<2 b + 1>` of block b); stem, shortcuts, head are whole.

    Its layers in the record are the dense net's and the gates': what the masked execution computes.
    """

    kind = "manidp_gated"

    def __init__(self, record: dict) -> None:
        super().__init__(record)
        self.net = build(record["net"])
        self.gates = nn.ModuleList(Gate(*size, record["squeeze"]) for size in _sizes(record["net"]))
        object.__setattr__(self, "stem", self.net.stem)
        object.__setattr__(self, "blocks", self.net.blocks)

    def trace(self, x: Tensor) -> tuple[Tensor, Trace]:
        """(logits [N, classes], what the gates did) of the images x [N, C, H, W]."""
        trace, h = Trace(), self.net.stem(x)
        for index, block in enumerate(self.net.blocks):
            h = gated_block(block, self.gates[2 * index], self.gates[2 * index + 1], h, trace)
        return self.net.head(h), trace

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of the masked execution: every channel is computed, then masked."""
        return self.trace(x)[0]

    def head(self, h: Tensor) -> Tensor:
        """Logits [N, classes] from the features [N, C, H, W] of the last block."""
        return self.net.head(h)

    def sites(self) -> list[Site]:
        """None: which channels are computed is decided for each image."""
        return []

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record holds a residual net of basic blocks and a squeeze rate."""
        checks.keys(record, {"kind", "input", "classes", "net", "squeeze"}, "record")
        checks.integer(record["squeeze"], "squeeze")
        refuse_ungateable(record["net"])

    @classmethod
    def layers(cls, record: dict) -> list[Layer]:
        """The dense net's layers and two linear maps a gate."""
        found = [Layer(f"net.{la.name}", *_rest(la)) for la in family(record["net"]).layers(record["net"])]
        for index, (inputs, outputs) in enumerate(_sizes(record["net"])):
            hidden = hidden_width(outputs, record["squeeze"])
            found.append(Layer(f"gates.{index}.squeeze", "linear", inputs, hidden))
            found.append(Layer(f"gates.{index}.excite", "linear", hidden, outputs, bias=True))
        return found

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """Impossible: the gates decide."""
        raise StageError("a gated net cannot be cut once for all images; cut the dense net before it is gated")


def gated_block(block: PostActivationBlock, first: Gate, second: Gate, x: Tensor, trace: Trace) -> Tensor:
    """Features after a basic block under its masks. The second gate sees the map that the first has masked."""
    gating = first(x)
    h = F.relu(block.bn1(block.conv1(x)))
    trace.note(gating.mask, gating.saliency, h.mean((2, 3)))
    h = h * gating.mask[:, :, None, None]
    gating = second(h)
    h = block.bn2(block.conv2(h))
    trace.note(gating.mask, gating.saliency, h.mean((2, 3)))
    h = h * gating.mask[:, :, None, None]
    return F.relu(h + (x if block.downsample is None else block.downsample(x)))


def gate(net: Net, squeeze: int = 2, scale: float = 1.0) -> GatedNet:
    """A gated net with the weights of the dense `net` (copied) and fresh gates from torch's generator.

    StageError for a net without basic blocks.
    """
    record = net.record()
    refuse_ungateable(record)
    gated = GatedNet({"kind": GatedNet.kind, "input": record["input"], "classes": record["classes"], "net": record,
                      "squeeze": squeeze})  # fmt: skip
    gated.net.load_state_dict(rebuild(record, {k: v.detach().cpu() for k, v in net.state_dict().items()}).state_dict())
    for item in gated.gates:
        item.reset(scale)
    return gated


def refuse_ungateable(record: dict) -> None:
    """StageError unless the record is of a residual net of post-activation basic blocks."""
    if not issubclass(family(record), ResNet):
        raise StageError(
            f"net {record['kind']}: gates need a residual net of basic blocks; choose resnet_bare, resnet_cifar or resnet"
        )
    if any(len(block["mid"]) != 1 for stage in record["stages"] for block in stage):
        raise StageError("net resnet: gates need basic blocks, these are bottlenecks; choose depth 18 or 34")


def _sizes(record: dict) -> list[tuple[int, int]]:
    """(inputs, outputs) of every gate: those of the convolution that it guards."""
    blocks = [block for stage in record["stages"] for block in stage]
    return [size for b in blocks for size in ((b["in"], b["mid"][0]), (b["mid"][0], b["out"]))]


def _rest(layer: Layer) -> tuple:
    return (layer.kind, layer.inputs, layer.outputs, layer.kernel, layer.groups, layer.bias, layer.positions)
