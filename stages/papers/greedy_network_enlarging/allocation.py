"""A network as the search sees it, alpha = (d, w, r): blocks and channels of every stage, side of the input."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from stages.lib.stage import StageError


@dataclass(frozen=True)
class Allocation:
    """alpha = (d, w, r) of section 2: d blocks and w channels per stage, r pixels a side."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    resolution: int

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.widths):
            found = f"{len(self.depths)} depths, {len(self.widths)} widths"
            raise StageError(f"net: expected a depth and a width for every stage, got {found}; correct the params file")
        if min(*self.depths, *self.widths, self.resolution) < 1:
            raise StageError(
                f"net: depths, widths and resolution must be 1 or more, got {self.record()}; correct the params file"
            )

    @property
    def stages(self) -> int:
        """S, the number of stages."""
        return len(self.depths)

    def value(self, slot: "Slot") -> int:
        """The size of one dimension."""
        return self.resolution if slot.dimension == "resolution" else self._values(slot.dimension)[slot.stage]

    def with_value(self, slot: "Slot", value: int) -> "Allocation":
        """The same net with one dimension changed."""
        if slot.dimension == "resolution":
            return dataclasses.replace(self, resolution=value)
        values = list(self._values(slot.dimension))
        values[slot.stage] = value
        return dataclasses.replace(self, **{f"{slot.dimension}s": tuple(values)})

    def contains(self, other: "Allocation") -> bool:
        """Whether `other` is a sub-component: nowhere deeper, wider or of larger images (section 1's assumption)."""
        if self.stages != other.stages:
            return False
        own, its = ((*net.depths, *net.widths, net.resolution) for net in (self, other))
        return all(a >= b for a, b in zip(own, its, strict=True))

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"depths": list(self.depths), "widths": list(self.widths), "resolution": self.resolution}

    def _values(self, dimension: str) -> tuple[int, ...]:
        return self.depths if dimension == "depth" else self.widths


def from_record(record: Any) -> Allocation:
    """The allocation of `record()`; StageError for anything else."""
    try:
        return Allocation(tuple(record["depths"]), tuple(record["widths"]), int(record["resolution"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(f"{str(record)[:80]}: not a record of depths, widths and resolution; run its stage again") from error


DIMENSIONS = ("depth", "width", "resolution")


@dataclass(frozen=True)
class Slot:
    """One dimension that a step of the search may grow: depth or width of a stage, or the resolution (stage -1)."""

    dimension: str
    stage: int = -1

    @property
    def name(self) -> str:
        """depth0, width3, resolution."""
        return self.dimension if self.stage < 0 else f"{self.dimension}{self.stage}"


def slots(stages: int) -> list[Slot]:
    """The 2 S + 1 slots of a step; known before anything is evaluated, which lets a static DAG fan out over them."""
    return [Slot(dimension, stage) for dimension in DIMENSIONS[:2] for stage in range(stages)] + [Slot("resolution")]
