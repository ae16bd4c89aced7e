"""Parameters and multiply-adds of teacher, encoder and decoders, in closed form. No torch here.

1 MAC = one multiply-add of a linear map or an attention product. Fixed position tables are no parameters.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.lib.errors import StageError
from stages.lib.vit.cost import Part, block, linear, norm, stem

if TYPE_CHECKING:
    from stages.papers.milan.settings import Decoder, Net
    from stages.papers.milan.tower import Shape

RATIO = 4


def tiles(shape: Sequence[int], patch: int) -> int:
    """Number of patches of square images [C, H, W]. Raises StageError where patches do not tile them."""
    _, height, width = shape
    if height != width or height % patch:
        raise StageError(f"net.patch={patch}: patches of that side do not tile images of {height} x {width} pixels")
    return (height // patch) ** 2


def tower(shape: "Shape") -> list[Part]:
    """CLIP's image tower, its projection applied to every token as for a student's targets."""
    width, tokens, pixels = shape.width, shape.patches + 1, shape.channels * shape.patch**2
    made = [
        Part("conv1", shape.patches * width * pixels, width * pixels),
        Part("embeddings", 0, width + tokens * width),
        norm("ln_pre", width),
    ]
    for i in range(shape.depth):
        made += block(f"transformer.resblocks.{i}", width, RATIO * width, width, tokens)
    return [*made, norm("ln_post", width), Part("proj", tokens * width * shape.joint, width * shape.joint)]


def encoder(net: "Net", shape: Sequence[int], seen: int) -> list[Part]:
    """The student's encoder on `seen` of an image's patches; all patches are embedded."""
    made = [stem("stem", shape[0], net.patch, tiles(shape, net.patch), net.width, learned=False)]
    for i in range(net.depth):
        made += block(f"blocks.{i}", net.width, RATIO * net.width, net.width, seen + 1)
    return [*made, norm("norm", net.width)]


def prompting_block(name: str, width: int, patches: int, seen: int) -> Part:
    """One block of the prompting decoder: queries of hidden patches, keys and values of all tokens."""
    hidden, tokens = patches - seen, patches + 1
    if not hidden:
        tokens = 0  # nothing asks, and the block is left out
    macs = hidden * width * width * (2 + 2 * RATIO) + tokens * 2 * width * width + 2 * hidden * tokens * width
    params = sum(part.params for part in block(name, width, RATIO * width, width, 1))  # q and kv are qkv in two parts
    return Part(name, macs, params)


def decoder(settings: "Decoder", inputs: int, patches: int, seen: int, outputs: int, prompting: bool) -> list[Part]:
    """A decoder from `seen` encoder tokens and the class token to predictions of all tokens."""
    width = settings.width
    made = [linear("embed", inputs, width, seen + 1), Part("mask_token", 0, width)]
    for i in range(settings.depth):
        name = f"blocks.{i}"
        plain = block(name, width, RATIO * width, width, patches + 1)
        made += [prompting_block(name, width, patches, seen)] if prompting else plain
    return [*made, norm("norm", width), linear("predict", width, outputs, patches + 1)]


def block_macs(parts: list[Part]) -> int:
    """MACs of the blocks alone."""
    return sum(part.macs for part in parts if part.name.startswith("blocks."))
