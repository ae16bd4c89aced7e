"""The plain vision transformer: ViT and DeiT without distillation (timm's deit_*_patch16_224, parameter for parameter)."""

from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.models import Net, register
from stages.lib.models.checks import integer, keys, refuse
from stages.lib.vit import cost
from stages.lib.vit.parts import DEVIATION, EPS, Block, Stem, drop_rates, initialise, sincos

KEYS = {"kind", "input", "classes", "patch", "embed", "depth", "heads", "hidden", "positions", "pool"}
POSITIONS, POOLS = ("learned", "sincos"), ("class", "mean")


@register
class VisionTransformer(Net):
    """Classifier of the class token or of the patch tokens' mean.

    `drop_path` and `deviation` (of initial weights, None for Xavier's) are training settings and no part of the record.
    """

    kind = "vit"

    def __init__(self, record: dict, drop_path: float = 0.0, deviation: float | None = DEVIATION) -> None:
        super().__init__(record)
        width, depth, heads = record["embed"], record["depth"], record["heads"]
        side = record["input"][1] // record["patch"]
        fixed = sincos(side, width) if record["positions"] == "sincos" else None
        self.stem = Stem(record["input"][0], record["patch"], side * side, width, fixed)
        self.blocks = nn.ModuleList(Block(width, record["hidden"], heads, rate) for rate in drop_rates(drop_path, depth))
        self.norm, self.classifier = nn.LayerNorm(width, EPS), nn.Linear(width, record["classes"])
        self.pool = record["pool"]
        initialise(self, deviation)

    def head(self, h: Tensor) -> Tensor:
        """Logits [B, classes] from the last block's tokens [B, N, e]."""
        tokens = self.norm(h)
        return self.classifier(tokens[:, 0] if self.pool == "class" else tokens[:, 1:].mean(1))

    def sites(self) -> list:
        """No channels to prune by the shared surgery: heads, neurons and tokens are a paper's own matter."""
        return []

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        keys(record, KEYS, "a vit")
        for name in ("classes", "patch", "embed", "depth", "heads", "hidden"):
            integer(record[name], name)
        tiles(record["input"], record["patch"])
        if record["embed"] % record["heads"]:
            raise refuse("heads", f"a divisor of embed={record['embed']}", record["heads"])
        for name, names in (("positions", POSITIONS), ("pool", POOLS)):
            if record[name] not in names:
                raise refuse(name, f"one of {', '.join(names)}", record[name])
        if record["positions"] == "sincos" and record["embed"] % 4:
            raise refuse("embed", "a multiple of 4 for sincos positions", record["embed"])

    @classmethod
    def layers(cls, record: dict) -> list:
        """Every part with its MACs and parameters, from the record alone."""
        width, patches = record["embed"], tiles(record["input"], record["patch"])
        learned = record["positions"] == "learned"
        made = [cost.stem("stem", record["input"][0], record["patch"], patches, width, learned)]
        for i in range(record["depth"]):
            made += cost.block(f"blocks.{i}", width, record["hidden"], width, patches + 1)
        return [*made, cost.norm("norm", width), cost.linear("classifier", width, record["classes"])]

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record itself: there is no site to narrow."""
        if widths:
            raise StageError(f"{', '.join(widths)}: a vit has no prunable site")
        return record


def tiles(shape: list[int] | tuple[int, ...], patch: int) -> int:
    """Number of patches of images [C, H, W]. StageError unless they are square, and patches tile them."""
    height, width = shape[1:]
    if height != width:
        raise StageError(f"images of {height} x {width} pixels: expected square ones")
    if height < patch or height % patch:
        raise StageError(f"patch={patch}: patches of that side do not tile images of {height} pixels")
    return (height // patch) ** 2


def vit(
    shape: list[int] | tuple[int, ...], classes: int, *, patch: int, embed: int, depth: int, heads: int, hidden: int,
    positions: str = "learned", pool: str = "class",
) -> dict:  # fmt: skip
    """The checked record of a net for images [C, H, W]; `hidden` is the MLP's width."""
    record = {
        "kind": VisionTransformer.kind, "input": list(shape), "classes": classes, "patch": patch, "embed": embed,
        "depth": depth, "heads": heads, "hidden": hidden, "positions": positions, "pool": pool,
    }  # fmt: skip
    VisionTransformer.check(record)
    return record
