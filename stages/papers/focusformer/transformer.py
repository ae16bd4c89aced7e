"""The stand-alone vision transformer of one architecture: what is deployed, and what a slice of the supernet must equal."""

from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.lib.models import Net, register
from stages.lib.models.checks import integer, keys, refuse
from stages.lib.vit.parts import DEVIATION, Stem, dropped
from stages.papers.focusformer import cost
from stages.papers.focusformer.cost import Canvas
from stages.papers.focusformer.relative import RelativePositions, attend
from stages.papers.focusformer.space import Architecture

KEYS = {"kind", "input", "classes", "patch", "head_dim", "clip", "embed", "ratios", "heads"}


class Block(nn.Module):
    """x + DropPath(attention(LN x)), then x + DropPath(MLP(LN x)); q, k and v have heads * head_dim columns each."""

    def __init__(self, width: int, hidden: int, heads: int, head_dim: int, clip: int, drop_path: float) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads, self.head_dim, self.drop_path = heads, head_dim, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * inner), nn.Linear(inner, width)
        self.keys, self.values = RelativePositions(clip, head_dim), RelativePositions(clip, head_dim)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, e] to tokens."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        attended = self.proj(attend(q, k, v, self.keys(tokens), self.values(tokens)))
        x = x + dropped(attended, self.drop_path, self.training)
        return x + dropped(self.fc2(F.gelu(self.fc1(self.norm2(x)))), self.drop_path, self.training)


def initialise(net: nn.Module, deviation: float) -> None:
    """Linear weights, positions and tables truncated normal, biases 0; the patch map and the norms keep torch's values."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=deviation)
            nn.init.zeros_(module.bias)
        elif isinstance(module, (Stem, RelativePositions)):
            for parameter in module.parameters(recurse=False):
                nn.init.trunc_normal_(parameter, std=deviation)


@register
class VisionTransformer(Net):
    """Classifier of the mean of the patch tokens; `drop_path` is a training setting and no part of the record."""

    kind = "focusformer"

    def __init__(self, record: dict, drop_path: list[float] | None = None, deviation: float = DEVIATION) -> None:
        super().__init__(record)
        found, canvas = described(record)
        rates = drop_path or [0.0] * found.depth
        self.stem = Stem(canvas.channels, canvas.patch, canvas.patches, found.embed)
        self.blocks = nn.ModuleList(
            Block(found.embed, int(found.embed * ratio), heads, canvas.head_dim, canvas.clip, rate)
            for ratio, heads, rate in zip(found.ratios, found.heads, rates[: found.depth], strict=True)
        )
        self.norm, self.classifier = nn.LayerNorm(found.embed), nn.Linear(found.embed, canvas.classes)
        initialise(self, deviation)

    def head(self, h: Tensor) -> Tensor:
        """Logits [B, classes] from the last block's tokens [B, N, e]."""
        return self.classifier(self.norm(h)[:, 1:].mean(1))

    def sites(self) -> list:
        """Nothing is pruned here."""
        return []

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        keys(record, KEYS, "architecture record")
        for name in ("classes", "patch", "head_dim", "clip", "embed"):
            integer(record[name], f"architecture record, {name}")
        ratios, heads = record["ratios"], record["heads"]
        if not isinstance(ratios, list) or not isinstance(heads, list) or len(ratios) != len(heads) or not ratios:
            raise refuse("architecture record, ratios and heads", "two lists of equal length", [ratios, heads])
        for i, (ratio, count) in enumerate(zip(ratios, heads, strict=True)):
            integer(count, f"architecture record, heads[{i}]")
            if not isinstance(ratio, (int, float)) or not int(record["embed"] * ratio) >= 1:
                raise refuse(f"architecture record, ratios[{i}]", "a number that leaves a hidden unit", ratio)
        described(record)[1].check()

    @classmethod
    def layers(cls, record: dict) -> list:
        """Every part with its MACs and parameters, from the record alone."""
        return cost.parts(*described(record))

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record itself: there is no site to narrow."""
        if widths:
            raise StageError(f"{', '.join(widths)}: this net has no prunable site; search its space instead")
        return record


def described(record: dict) -> tuple[Architecture, Canvas]:
    """Architecture and canvas of a record."""
    found = Architecture(record["embed"], tuple(record["ratios"]), tuple(record["heads"]))
    channels, image, _ = record["input"]
    return found, Canvas(image, channels, record["classes"], record["patch"], record["head_dim"], record["clip"])


def record_of(found: Architecture, canvas: Canvas) -> dict:
    """The record of an architecture's stand-alone net."""
    about = {"kind": VisionTransformer.kind, "input": [canvas.channels, canvas.image, canvas.image], "classes": canvas.classes}
    return {**about, "patch": canvas.patch, "head_dim": canvas.head_dim, "clip": canvas.clip, **found.record()}
