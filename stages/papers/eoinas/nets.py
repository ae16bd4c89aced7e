"""Nets of genotypes for the data at hand."""

from stages.lib import macs, models
from stages.lib.darts import DartsNet, Genotype, darts_record
from stages.lib.data import Split
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.eoinas.settings import NetParams

WIDEST = 4  # times the usual width, in search of equal cost


def record(genotype: Genotype, params: NetParams, split: Split, channels: int = 0, auxiliary: bool = False) -> dict:
    """The record of a genotype's net; `channels` 0 stands for the usual width."""
    return darts_record(
        genotype, params.cells, channels or params.channels, list(split.x.shape[1:]), len(split.classes), params.stem, auxiliary
    )


def fresh(genotype: Genotype, params: NetParams, split: Split, repetition: int, channels: int, auxiliary: bool) -> DartsNet:
    """The net with the repetition's random weights."""
    seed_everything(derive_seed(repetition, "init"))
    return models.build(record(genotype, params, split, channels, auxiliary))


def width_for(genotype: Genotype, params: NetParams, split: Split, target: int) -> int:
    """The width at which a genotype's net comes nearest to `target` MACs."""
    widths = range(2, WIDEST * params.channels + 1)
    return min(widths, key=lambda width: abs(macs.total(record(genotype, params, split, width)).macs - target))
