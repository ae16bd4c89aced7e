"""Parameters and multiply-adds of an architecture, in closed form. No torch here.

1 MAC = one multiply-add of a linear map or an attention product, those with the relative positions included.
"""

from dataclasses import dataclass

from stages.lib.errors import StageError
from stages.lib.vit.cost import Part
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.settings import Space, Supernet
from stages.papers.focusformer.space import Architecture


@dataclass(frozen=True)
class Canvas:
    """What surrounds an architecture: images, patches, heads' width, reach of the relative positions, classes."""

    image: int
    channels: int
    classes: int
    patch: int
    head_dim: int = 64
    clip: int = 14

    @property
    def patches(self) -> int:
        """Number of patch tokens n; one class token comes on top."""
        return (self.image // self.patch) ** 2

    def check(self) -> None:
        """StageError unless the patches tile the image."""
        if self.image % self.patch:
            raise StageError(f"supernet.patch={self.patch}: does not divide the image's {self.image} pixels")


def canvas(supernet: Supernet, shape: tuple[int, ...] | list[int], classes: int) -> Canvas:
    """The canvas of images [C, H, W]. Raises StageError for images that are not square or that patches do not tile."""
    channels, height, width = shape
    if height != width:
        raise StageError(f"images of {height} x {width} pixels: expected square ones")
    made = Canvas(height, channels, classes, supernet.patch, supernet.head_dim, supernet.clip)
    made.check()
    return made


def parts(found: Architecture, canvas: Canvas, relative: bool = True) -> list[Part]:
    """Every layer of the stand-alone net; `relative` says whether the MACs of relative positions count."""
    n, e = canvas.patches, found.embed
    tokens, pixels = n + 1, canvas.channels * canvas.patch**2
    made = [Part("stem", n * e * pixels, e * pixels + e + e + tokens * e)]
    for i, (ratio, heads) in enumerate(zip(found.ratios, found.heads, strict=True)):
        q, hidden = heads * canvas.head_dim, int(e * ratio)
        products = (4 if relative else 2) * tokens * tokens * q
        tables = 4 * (2 * canvas.clip + 2) * canvas.head_dim
        made += [
            Part(f"blocks.{i}.attention", tokens * 4 * e * q + products, 3 * (e * q + q) + q * e + e + tables + 2 * e),
            Part(f"blocks.{i}.mlp", 2 * tokens * e * hidden, 2 * e * hidden + hidden + e + 2 * e),
        ]
    return [*made, Part("classifier", e * canvas.classes, 2 * e + e * canvas.classes + canvas.classes)]


def macs(found: Architecture, canvas: Canvas, relative: bool = True) -> int:
    """MACs of one image."""
    return sum(part.macs for part in parts(found, canvas, relative))


def parameters(found: Architecture, canvas: Canvas) -> int:
    """Learnable numbers of the stand-alone net."""
    return sum(part.params for part in parts(found, canvas))


def whole(supernet: Supernet) -> Architecture:
    """The supernet itself as an architecture."""
    return Architecture(supernet.embed, (supernet.ratio,) * supernet.depth, (supernet.heads,) * supernet.depth)


def budgets(space: Space, canvas: Canvas, shares: list[float]) -> list[int]:
    """Budgets in MACs from shares of the largest architecture's. Raises StageError for one that no architecture meets."""
    least, most = macs(spaces.smallest(space), canvas), macs(spaces.largest(space), canvas)
    made = [int(share * most) for share in shares]
    for share, budget in zip(shares, made, strict=True):
        check_budget(budget, least, most, f"budgets: {share:g}")
    return made


def check_budget(budget: float, least: int, most: int, what: str) -> None:
    """StageError for a budget that is below the smallest or above the largest architecture."""
    if not least <= budget <= most:
        raise StageError(f"{what} is {budget:g} MACs; expected one from {least} to {most}, the reachable range")
