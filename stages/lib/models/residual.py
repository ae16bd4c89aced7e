"""What both residual families share: the record of a net of stages of blocks.

A record is `{kind, input: [C,H,W], classes, stem: {width, kernel, stride, padding, pool}, stages}`, where stages is a
list of lists of blocks `{in, mid, out, stride}`. `mid` has one width in a basic block (two 3x3 convolutions) and two in
a bottleneck (1x1, 3x3, 1x1; the stride is on the 3x3, as in torchvision).
"""

import copy
from collections.abc import Iterator

from torch import nn

from stages.lib.errors import StageError
from stages.lib.models import checks
from stages.lib.models.geometry import Canvas
from stages.lib.models.sites import Site

STEM_KEYS = {"width", "kernel", "stride", "padding", "pool"}


def branch(block: dict) -> list[tuple[int, int, int, int]]:
    """The convolutions (inputs, outputs, kernel, stride) of a block's residual branch, in order."""
    widths = [block["in"], *block["mid"], block["out"]]
    shape = [(3, block["stride"]), (3, 1)] if len(widths) == 3 else [(1, 1), (3, block["stride"]), (1, 1)]
    return [(widths[i], widths[i + 1], kernel, stride) for i, (kernel, stride) in enumerate(shape)]


def projects(block: dict) -> bool:
    """Whether the shortcut needs a 1x1 convolution because the block changes the shape of its input."""
    return block["stride"] != 1 or block["in"] != block["out"]


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    """A convolution without bias, padded by kernel // 2 unless told."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if padding is None else padding, bias=False)


def walk(record: dict) -> Iterator[tuple[int, int, dict]]:
    """(stage, place in the stage, block record) of every block in forward order."""
    for s, stage in enumerate(record["stages"]):
        for b, block in enumerate(stage):
            yield s, b, block


def check(record: dict) -> None:
    """StageError unless `record` describes a residual net whose widths fit one another."""
    checks.keys(record, {"kind", "input", "classes", "stem", "stages"}, "record")
    checks.integers(record["input"], "input", (3,))
    checks.integer(record["classes"], "classes")
    stem = checks.keys(record["stem"], STEM_KEYS, "stem")
    for key in ("width", "kernel", "stride"):
        checks.integer(stem[key], f"stem.{key}")
    checks.integer(stem["padding"], "stem.padding", 0)
    checks.boolean(stem["pool"], "stem.pool")
    if (
        not isinstance(record["stages"], list)
        or not record["stages"]
        or not all(isinstance(s, list) and s for s in record["stages"])
    ):
        raise checks.refuse("stages", "a list of non-empty lists of blocks", record["stages"])
    width = stem["width"]
    for s, b, block in walk(record):
        width = check_block(block, width, f"stages[{s}][{b}]")


def check_block(block: dict, width: int, where: str) -> int:
    """The width that leaves a block, after checking the block against the width that enters it."""
    checks.keys(block, {"in", "mid", "out", "stride"}, where)
    checks.integers(block["mid"], f"{where}.mid", (1, 2))
    for key in ("in", "out", "stride"):
        checks.integer(block[key], f"{where}.{key}")
    if block["in"] != width:
        raise checks.refuse(f"{where}.in", f"{width}, the width before it", block["in"])
    return block["out"]


def stem_layers(canvas: Canvas, record: dict, name: str) -> None:
    """Note the stem's convolution (what follows it differs between the families)."""
    stem = record["stem"]
    canvas.conv(name, record["input"][0], stem["width"], stem["kernel"], stem["stride"], stem["padding"])


def stages(blocks: list[int], widths: list[int], stem: int, bottleneck: bool = False) -> list[list[dict]]:
    """Dense stages of `blocks[i]` blocks of `widths[i]`.

    Every stage but the first halves the picture. Bottlenecks leave with 4 x the width.
    """
    if len(blocks) != len(widths):
        raise StageError(
            f"blocks and widths: expected one width for each stage, got {len(blocks)} stages and {len(widths)} "
            "widths; correct the params file"
        )
    made, before = [], stem
    for s, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        mid, out = ([width, width], 4 * width) if bottleneck else ([width], width)
        first = {"in": before, "mid": mid, "out": out, "stride": 2 if s else 1}
        rest = {"in": out, "mid": mid, "out": out, "stride": 1}
        made.append([copy.deepcopy(first if b == 0 else rest) for b in range(count)])
        before = out
    return made


def narrowed(record: dict, names: list[tuple[int, int, int, Site]], widths: dict[str, int]) -> dict:
    """The record with new widths inside blocks; `names` maps (stage, place, index in mid) to sites."""
    thin = copy.deepcopy(record)
    for s, b, m, site in names:
        if site.name in widths:
            thin["stages"][s][b]["mid"][m] = widths[site.name]
    return thin


def block_sites(record: dict, path: str, norm_offset: int) -> list[tuple[int, int, int, Site]]:
    """(stage, place, index in mid, site) of every block-internal width.

    `path` is the pattern of a block's module path, with `{stage}` (from 1), `{place}` in it and `{index}` over all
    blocks (both from 0). Between conv i and conv i+1 (from 1) stands the normalisation bn(i + norm_offset).
    """
    found = []
    for index, (s, b, block) in enumerate(walk(record)):
        at = path.format(stage=s + 1, place=b, index=index)
        for m in range(len(block["mid"])):
            consumer = f"{at}.conv{m + 2}"
            found.append((s, b, m, Site(consumer, index, f"{at}.conv{m + 1}", f"{at}.bn{m + 1 + norm_offset}", consumer)))
    return found
