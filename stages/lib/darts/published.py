"""Genotypes that papers and official codes print."""

from stages.lib.darts.genotype import Genotype
from stages.lib.errors import StageError

_SHORT = {
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
}


def _cell(text: str) -> tuple[tuple[str, int], ...]:
    words = text.split()
    return tuple((_SHORT[op], int(source)) for op, source in zip(words[::2], words[1::2], strict=True))


def _genotype(normal: str, reduce: str) -> Genotype:
    return Genotype(_cell(normal), _cell(reduce))


# Nodes 2 to 5, two (operation, predecessor) pairs each. The first two: Liu et al. 2019, first and second order; pdarts: Chen
# et al. 2019; the last two: the official code of EoiNAS (ZLab540/EoiNAS), gnas_2 being the one that it trains.
PUBLISHED = {
    "darts_v1": _genotype(
        "sep3 1 sep3 0  skip 0 sep3 1  skip 0 sep3 1  sep3 0 skip 2",
        "max 0 max 1  skip 2 max 0  max 0 skip 2  skip 2 avg 0",
    ),
    "darts_v2": _genotype(
        "sep3 0 sep3 1  sep3 0 sep3 1  sep3 1 skip 0  skip 0 dil3 2",
        "max 0 max 1  skip 2 max 1  max 0 skip 2  skip 2 max 1",
    ),
    "pdarts": _genotype(
        "skip 0 dil3 1  skip 0 sep3 1  sep3 1 sep3 3  sep3 0 dil5 4",
        "avg 0 sep5 1  sep3 0 dil5 2  max 0 dil3 1  dil3 1 dil5 3",
    ),
    "gnas": _genotype(
        "sep3 0 sep3 1  skip 0 sep3 1  sep3 0 sep5 3  sep3 1 dil5 4",
        "sep3 0 sep3 1  max 0 sep3 2  sep5 0 sep5 1  dil5 2 dil5 3",
    ),
    "gnas_2": _genotype(
        "sep3 0 sep3 1  sep3 0 sep3 1  skip 0 dil3 2  skip 1 dil5 4",
        "sep3 0 sep3 1  sep5 0 dil5 2  dil3 1 dil5 3  dil5 3 dil5 4",
    ),
}


def published(name: str) -> Genotype:
    """A printed genotype; StageError that lists the names where there is none."""
    if name not in PUBLISHED:
        raise StageError(f"genotype {str(name)[:60]!r}: expected one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
