"""What is compared: ways to a genotype."""

from dataclasses import dataclass

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Searcher:
    """How a supernet is searched. Arms differ in this alone: weights, order of the data and first alphas are the same."""

    gumbel: bool  # mixing weights: a Gumbel softmax sample, or the plain softmax of DARTS
    prune: bool  # operations are given up on the way, or only chosen at the end
    indicator: bool  # the importance indicator, or softmax(alpha) alone


SEARCHERS = {
    "eoinas": Searcher(gumbel=True, prune=True, indicator=True),
    "alpha_pruning": Searcher(gumbel=True, prune=True, indicator=False),
    "darts": Searcher(gumbel=False, prune=False, indicator=False),
}
# Names of the printed genotypes are those of stages.lib.darts.PUBLISHED.
PRINTED = ("darts_v2", "gnas_2")
BASELINES = ("random_best", "random", *PRINTED)
ARMS = (*SEARCHERS, *BASELINES)


def searcher(name: str) -> Searcher:
    """The searching arm of that name; StageError that lists them where there is none."""
    if name not in SEARCHERS:
        raise StageError(f"arm={name}: there is no such search; choose one of {', '.join(SEARCHERS)}")
    return SEARCHERS[name]


def known(name: str) -> str:
    """The name itself; StageError that lists the arms where there is none such."""
    if name not in ARMS:
        raise StageError(f"arm={name}: there is no such arm; choose one of {', '.join(ARMS)}")
    return name
