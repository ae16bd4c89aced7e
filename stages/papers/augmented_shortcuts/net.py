"""Aug-ViT: a vision transformer whose blocks have augmented shortcuts."""

from torch import Tensor, nn

from stages.lib.models import register
from stages.lib.models.checks import integer, keys, refuse
from stages.lib.vit import cost
from stages.lib.vit.net import KEYS, VisionTransformer, tiles, vit
from stages.lib.vit.parts import DEVIATION, initialise
from stages.papers.augmented_shortcuts.arms import Arm
from stages.papers.augmented_shortcuts.circulant import block_length
from stages.papers.augmented_shortcuts.shortcuts import AugmentedBlock, Paths

OWN = {"paths", "blocks", "activation", "normed", "scale", "identity"}


@register
class AugVit(VisionTransformer):
    """The plain net with `paths` parallel paths in each of the two modules of every block.

    Weights that a plain net has too are drawn first and are the same for the same seed. `form` says how circulant
    projections compute.
    """

    kind = "augvit"

    def __init__(self, record: dict, drop_path: float = 0.0, deviation: float | None = DEVIATION, form: str = "auto") -> None:
        super().__init__(record, drop_path, deviation)
        width, paths = record["embed"], record["paths"]

        def make() -> Paths:
            made = Paths(width, paths, record["blocks"] or None, record["activation"], form)
            initialise(made, deviation)  # dense projections as all linear maps; circulant ones keep their own rule
            return made

        options = {key: record[key] for key in ("normed", "scale", "identity")}
        self.blocks = nn.ModuleList(AugmentedBlock(block, make if paths else None, **options) for block in self.blocks)

    def features(self, x: Tensor) -> list[Tensor]:
        """Z_0 ... Z_L, the tokens [B, N, d] that enter the first block and leave every block."""
        found = [self.stem(x)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        keys(record, KEYS | OWN, "an augvit")
        super().check({key: record[key] for key in KEYS})
        integer(record["paths"], "paths", 0)
        integer(record["blocks"], "blocks", 0)
        if record["blocks"]:
            block_length(record["embed"], record["embed"], record["blocks"])
        for name in ("activation", "normed", "identity"):
            if not isinstance(record[name], bool):
                raise refuse(name, "true or false", record[name])
        if not isinstance(record["scale"], float) or not 0.0 < record["scale"] <= 1.0:
            raise refuse("scale", "a number in (0, 1]", record["scale"])

    @classmethod
    def layers(cls, record: dict) -> list:
        """Every part with its parameters, and its MACs with circulant projections computed densely, from the record."""
        made, tokens = [], tiles(record["input"], record["patch"]) + 1
        for part in super().layers(record):
            made.append(part)
            for module, paths in ((".attention", "paths1"), (".mlp", "paths2")):
                if record["paths"] and part.name.endswith(module):
                    made.append(projections(part.name.removesuffix(module) + f".{paths}", record, tokens))
        return made


def projections(name: str, record: dict, tokens: int) -> cost.Part:
    """All paths of one module: T (b d + d) parameters with circulant blocks, T (d d + d) without."""
    width, paths = record["embed"], record["paths"]
    free = record["blocks"] or width
    return cost.Part(name, paths * tokens * width * width, paths * (free * width + width))


def augvit(
    shape: list[int] | tuple[int, ...], classes: int, arm: Arm, *, patch: int, embed: int, depth: int, heads: int,
    hidden: int, blocks: int,
) -> dict:  # fmt: skip
    """The checked record of an arm's net for images [C, H, W]; `hidden` is the MLP's width, `blocks` is b."""
    base = vit(shape, classes, patch=patch, embed=embed, depth=depth, heads=heads, hidden=hidden)
    record = {
        **base, "kind": AugVit.kind, "paths": arm.paths, "blocks": blocks if arm.circulant else 0,
        "activation": arm.activation, "normed": arm.normed, "scale": arm.scale, "identity": arm.identity,
    }  # fmt: skip
    AugVit.check(record)
    return record
