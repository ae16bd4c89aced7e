"""The DARTS search space: operations, genotypes, published cells, closed forms and the net of a genotype."""

from stages.lib.darts.genotype import Genotype, parse
from stages.lib.darts.network import DartsNet, darts_record
from stages.lib.darts.operations import OPERATIONS, FactorizedReduce, ReluConvBn, operation, preprocess
from stages.lib.darts.published import PUBLISHED, published

__all__ = [
    "OPERATIONS",
    "PUBLISHED",
    "DartsNet",
    "FactorizedReduce",
    "Genotype",
    "ReluConvBn",
    "darts_record",
    "operation",
    "parse",
    "preprocess",
    "published",
]
