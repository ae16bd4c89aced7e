"""The photographs of a run: of a prepared set, or of ImageNet's files through their index."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.data import PREPARED
from stages.lib.errors import StageError
from stages.lib.restoration import sets
from stages.lib.restoration.sets import Pair, Photograph, Prepared

if TYPE_CHECKING:
    from stages.lib.images import Index
    from stages.papers.ipt.pairs import Pool

PHOTOGRAPHS, RAIN, BENCHMARKS, IMAGENET = "div2k", "rain", "benchmarks", "imagenet"


class Indexed:
    """Photographs of an index, decoded when they are asked for; labels are not used."""

    def __init__(self, index: "Index") -> None:
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> Photograph:
        import numpy

        from stages.lib.decoding import to_rgb
        from stages.lib.images import read_image

        return Photograph(self.index.paths[place].decode(), numpy.asarray(to_rgb(read_image(self.index, place))))


def pretraining(source: str, names: Sequence[str]) -> "Pool":
    """The photographs of pre-training: those of that name in div2k's train split (all for no names), or ImageNet's."""
    if source == IMAGENET:
        from stages.lib.images import EVERY, read_index

        return Indexed(read_index(IMAGENET, EVERY))
    return named(sets.load(PHOTOGRAPHS, "train"), names, sets.CLEAN)


def named(prepared: Prepared, names: Sequence[str], kind: str) -> list[Photograph]:
    """The images of that kind and those names, all for no names. StageError for a name that is not there."""
    found = {image.name: image for image in prepared.photographs(kind)}
    return [found[name] for name in known(prepared, names, list(found))]


def known(prepared: Prepared, names: Sequence[str], found: Sequence[str]) -> Sequence[str]:
    """The names, or all that were found for no names. StageError for a name that was not found."""
    for name in names:
        if name not in found:
            raise StageError(f"{prepared.name}: has no photograph {name}; correct the names in the scale's params file")
    return names or found


def pairs_of(prepared: Prepared, pairs: Sequence[Pair], names: Sequence[str]) -> list[Pair]:
    """The pairs of those names, all for no names. StageError for a name that is not there."""
    found = {pair.name: pair for pair in pairs}
    return [found[name] for name in known(prepared, names, list(found))]


def manifests(*datasets: str) -> list[Path]:
    """Manifests of prepared sets, which hold the hashes of all that is read."""
    return [PREPARED / name / "manifest.json" for name in datasets]
