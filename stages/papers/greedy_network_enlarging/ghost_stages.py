"""GhostNet's blocks as plain numbers: the two generators "1x" and "large" of the released S-GhostNets (section 3.1)."""

from dataclasses import dataclass

from stages.lib.models.geometry import Canvas, Layer
from stages.papers.greedy_network_enlarging.nets import make_divisible

BASE_DEPTHS, BASE_WIDTHS = (1, 2, 2, 4, 2, 5), (16, 24, 40, 80, 112, 160)
GENERATORS = ("1x", "large")
DIVISOR = 4  # of channels
SE_DIVISOR = {"1x": 4, "large": 8}
KERNELS, STRIDES = (3, 3, 5, 3, 3, 5), (1, 2, 2, 2, 1, 2)
FIRST = (1, 3, 3, 6, 6, 6)  # expansion of a stage's first block, in channels of the stage before (stage 0: its own)
LATER = (1, 3, 3, 2.5, 6, 6)  # of its other blocks, in the stage's own channels; "1x" has fixed numbers in stage 3
LEAST_HEAD = 1280


@dataclass(frozen=True)
class GhostBlock:
    """Channels in, hidden and out of a bottleneck; `squeeze` channels of its SE (0: none)."""

    kernel: int
    stride: int
    inputs: int
    hidden: int
    outputs: int
    squeeze: int

    @property
    def projects(self) -> bool:
        """Whether the shortcut has layers."""
        return self.stride != 1 or self.inputs != self.outputs


def stem_width(widths: list[int]) -> int:
    """Channels of the first convolution."""
    return make_divisible(widths[0], DIVISOR)


def ghost_stages(generator: str, depths: list[int], widths: list[int]) -> list[list[GhostBlock]]:
    """All bottlenecks, stage by stage."""
    stages, inputs = [], stem_width(widths)
    for s, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        row, outputs = [], make_divisible(width, DIVISOR)
        for b in range(depth):
            hidden = make_divisible(_expansion(generator, s, b, widths), DIVISOR)
            ratio = _se_ratio(generator, s, b)
            squeeze = make_divisible(hidden * ratio, SE_DIVISOR[generator]) if ratio else 0
            row.append(GhostBlock(KERNELS[s], STRIDES[s] if b == 0 else 1, inputs, hidden, outputs, squeeze))
            inputs = outputs
        stages.append(row)
    return stages


def _expansion(generator: str, stage: int, block: int, widths: list[int]) -> float:
    if block == 0:
        return FIRST[stage] * widths[max(stage - 1, 0)]
    if generator == "1x" and stage == 3:
        return 200 if block == 1 else 184
    return LATER[stage] * widths[stage]


def _se_ratio(generator: str, stage: int, block: int) -> float:
    if generator == "large":
        return 0.1
    return 0.25 if stage in (2, 4) or (stage == 5 and block % 2 == 0) else 0.0


def head_widths(generator: str, depths: list[int], widths: list[int]) -> tuple[int, int]:
    """Channels of the last 1 x 1 convolution before the pool and of the one behind it."""
    last = ghost_stages(generator, depths, widths)[-1][-1]
    return last.hidden, max(LEAST_HEAD, 5 * last.outputs)


def ghost_layers(record: dict) -> list[Layer]:
    """Every parametric layer of the net of a record, by its module path."""
    canvas, generator = Canvas(*record["input"][1:]), record["generator"]
    stem = stem_width(record["widths"])
    canvas.conv("conv_stem", record["input"][0], stem, 3, 2)
    canvas.norm("bn1", stem)
    stages = ghost_stages(generator, record["depths"], record["widths"])
    for s, row in enumerate(stages):
        for b, block in enumerate(row):
            _bottleneck(canvas, block, f"blocks.{s}.{b}")
    before, behind = head_widths(generator, record["depths"], record["widths"])
    at = f"blocks.{len(stages)}.0"
    canvas.conv(f"{at}.conv", stages[-1][-1].outputs, before, 1)
    canvas.norm(f"{at}.bn1", before)
    canvas.layers.append(Layer("conv_head", "conv", before, behind, bias=True))
    canvas.linear("classifier", behind, record["classes"])
    return canvas.layers


def _bottleneck(canvas: Canvas, block: GhostBlock, at: str) -> None:
    shortcut = Canvas(canvas.height, canvas.width)
    _ghost_module(canvas, block.inputs, block.hidden, f"{at}.ghost1")
    if block.stride > 1:
        canvas.conv(f"{at}.conv_dw", block.hidden, block.hidden, block.kernel, block.stride, groups=block.hidden)
        canvas.norm(f"{at}.bn_dw", block.hidden)
    if block.squeeze:
        canvas.layers.append(Layer(f"{at}.se.conv_reduce", "conv", block.hidden, block.squeeze, bias=True))
        canvas.layers.append(Layer(f"{at}.se.conv_expand", "conv", block.squeeze, block.hidden, bias=True))
    _ghost_module(canvas, block.hidden, block.outputs, f"{at}.ghost2")
    if block.projects:
        shortcut.conv(f"{at}.shortcut.0", block.inputs, block.inputs, block.kernel, block.stride, groups=block.inputs)
        shortcut.norm(f"{at}.shortcut.1", block.inputs)
        shortcut.conv(f"{at}.shortcut.2", block.inputs, block.outputs, 1)
        shortcut.norm(f"{at}.shortcut.3", block.outputs)
    canvas.layers += shortcut.layers


def _ghost_module(canvas: Canvas, inputs: int, outputs: int, at: str) -> None:
    half = -(-outputs // 2)
    canvas.conv(f"{at}.primary_conv.0", inputs, half, 1)
    canvas.norm(f"{at}.primary_conv.1", half)
    canvas.conv(f"{at}.cheap_operation.0", half, half, 3, groups=half)
    canvas.norm(f"{at}.cheap_operation.1", half)
