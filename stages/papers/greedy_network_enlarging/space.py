"""The search space: a family of nets with a base, the images and classes, and what every net of it costs."""

import functools
from dataclasses import dataclass
from typing import Any

from stages.lib.models import Net, build
from stages.lib.models.base import family as class_of
from stages.lib.models.geometry import Layer
from stages.lib.stage import StageError
from stages.papers.greedy_network_enlarging import efficientnet, ghost_stages
from stages.papers.greedy_network_enlarging.allocation import Allocation, Slot
from stages.papers.greedy_network_enlarging.efficientnet import EfficientNet
from stages.papers.greedy_network_enlarging.ghostnet import GhostNet
from stages.papers.greedy_network_enlarging.nets import StageNet, make_divisible
from stages.papers.greedy_network_enlarging.plain import PlainStages
from stages.papers.greedy_network_enlarging.settings import Base, Search

# Family -> its class and the number that widths are multiples of.
FAMILIES: dict[str, tuple[type[StageNet], int]] = {
    "plain": (PlainStages, 1),
    "ghostnet": (GhostNet, ghost_stages.DIVISOR),
    "efficientnet": (EfficientNet, efficientnet.DIVISOR),
}


@dataclass(frozen=True)
class Space:
    """Nets of one family for square images of `channels` channels."""

    family: str
    base: Allocation
    options: tuple[tuple[str, Any], ...]
    channels: int
    classes: int

    @property
    def divisor(self) -> int:
        """What widths are multiples of."""
        return FAMILIES[self.family][1]

    def record(self, net: Allocation) -> dict[str, Any]:
        """The architecture record of an allocation, from which `stages.lib.models.build` makes the net."""
        record = {
            "kind": FAMILIES[self.family][0].kind, "input": [self.channels, net.resolution, net.resolution],
            "classes": self.classes, "depths": list(net.depths), "widths": list(net.widths), **dict(self.options),
        }  # fmt: skip
        if self.family == "efficientnet":
            record.setdefault("stem", efficientnet.stem_of(record["widths"]))
        return record

    def build(self, net: Allocation) -> Net:
        """The net with fresh random weights (torch's global generator)."""
        return build(self.record(net))

    def layers(self, net: Allocation) -> list[Layer]:
        """Geometry of all its layers."""
        return FAMILIES[self.family][0].layers(self.record(net))

    @functools.lru_cache(maxsize=100_000)  # noqa: B019  spaces live as long as the process
    def macs(self, net: Allocation) -> int:
        """MACs of the whole net for one image, by the closed form."""
        return sum(layer.macs for layer in self.layers(net))

    def parameters(self, net: Allocation) -> int:
        """Learnable numbers."""
        return sum(layer.params for layer in self.layers(net))

    def group_macs(self, net: Allocation) -> dict[str, int]:
        """MACs of the stem, of every stage ("0", "1", ...) and of the head, in this order."""
        groups = dict.fromkeys(["stem", *map(str, range(net.stages)), "head"], 0)
        for layer in self.layers(net):
            groups[FAMILIES[self.family][0].group(layer.name)] += layer.macs
        return groups

    def effective(self, slot: Slot, value: float) -> int:
        """The size that a dimension really takes: widths are rounded to multiples of the divisor."""
        return make_divisible(value, self.divisor) if slot.dimension == "width" else round(value)


def space_of(base: Base, channels: int, classes: int) -> Space:
    """The space around a base of the params file; StageError for an unknown family or a base that is none of its nets."""
    if base.family not in FAMILIES:
        raise StageError(f"net.family={base.family}: expected one of {', '.join(FAMILIES)}; correct the params file")
    found = Space(base.family, base.allocation(), tuple(sorted(base.options.items())), channels, classes)
    class_of(found.record(found.base))
    return found


def check_budget(space: Space, search: Search) -> None:
    """StageError unless alpha_0 keeps within the largest sizes and T lies between M_0 and what they allow."""
    most = search.most
    largest = Allocation((most.depth,) * space.base.stages, (most.width,) * space.base.stages, most.resolution)
    if not largest.contains(space.base):
        raise StageError(f"search.most: the base {space.base.record()} is larger; raise it or take a smaller net")
    rounded = tuple(space.effective(Slot("width", s), width) for s, width in enumerate(largest.widths))
    reach = space.macs(Allocation(largest.depths, rounded, largest.resolution)) / space.macs(space.base)
    if search.target > reach:
        raise StageError(
            f"search.target={search.target:g}: sizes up to search.most reach {reach:.4g} times the base's MACs; "
            "lower the target or raise the sizes"
        )
