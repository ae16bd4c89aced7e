"""What the families of this search have in common: square images of the net's own side, and stages of blocks."""

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.lib.models import checks
from stages.lib.models.base import Net
from stages.lib.models.sites import Site

if TYPE_CHECKING:
    from stages.lib.shards import ShardedImages


class StageNet(Net):
    """A net whose record holds `depths` and `widths`, one entry a stage; images of another side are resized to its own.

    `stage_prefix` is how the names of a stage's layers begin: prefix, number of the stage + `first_stage`, a full stop.
    """

    stage_prefix: ClassVar[str] = "blocks."
    first_stage: ClassVar[int] = 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, C, H, W], resized bilinearly where their side is not r."""
        return super().forward(resized(x, self._record["input"][1]))

    def sites(self) -> list[Site]:
        """None: nets that are enlarged are not pruned here."""
        return []

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record itself; StageError where a width is asked for."""
        if widths:
            raise StageError(f"a net of kind {cls.kind} has no prunable sites, got widths for {', '.join(widths)}")
        return record

    @classmethod
    def group(cls, name: str) -> str:
        """`stem`, `head` or the number of the stage to which a layer of that name belongs."""
        if name.startswith(cls.stage_prefix):
            stage = int(name.removeprefix(cls.stage_prefix).partition(".")[0]) - cls.first_stage
            if stage >= 0:
                return str(stage)
        return "stem" if name.startswith(cls.stem_names) else "head"

    stem_names: ClassVar[tuple[str, ...]] = ("conv_stem", "bn1")


def resized(x: "Tensor | ShardedImages", side: int) -> "Tensor | ShardedImages":
    """Images [N, C, side, side] by bilinear interpolation; as they are if of that side or in shards (a net resizes batches)."""
    if x.shape[-2:] == torch.Size((side, side)) or not isinstance(x, Tensor):
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def check_sizes(record: dict, keys: set[str], kind: str) -> None:
    """StageError unless a record has exactly these keys and sensible images, classes, depths and widths."""
    checks.keys(record, {"kind", "input", "classes", "depths", "widths", *keys}, kind)
    image = checks.integers(record["input"], "input", (3,))
    if image[1] != image[2]:
        raise checks.refuse("input", "square images", image)
    checks.integer(record["classes"], "classes")
    widths = checks.integers(record["widths"], "widths")
    checks.integers(record["depths"], "depths", (len(widths),))


def share(value: object, where: str) -> float:
    """`value` itself, after checking that it is a probability below 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise checks.refuse(where, "a number from 0 up to but without 1", value)
    return float(value)


def make_divisible(x: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to x, never below nine tenths of it (MobileNet's rule; section 3.1)."""
    rounded = max(divisor, int(x + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * x else rounded
