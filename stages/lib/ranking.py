"""How well predicted scores rank architectures: rank correlations, and what the predicted best and worst contain.

Scores and truths are one-dimensional and larger is better. Ranks come from a stable sort, so of equal scores the one that
comes first counts as the better one; shuffle the list beforehand where its order means something.
"""

import numpy
from scipy import stats

from stages.lib.errors import StageError


def _pair(scores, truth) -> tuple[numpy.ndarray, numpy.ndarray]:
    scores, truth = numpy.asarray(scores, dtype=float), numpy.asarray(truth, dtype=float)
    if scores.ndim != 1 or scores.shape != truth.shape or len(scores) < 2:
        raise StageError(f"ranking needs two lists of the same length of at least 2, not {scores.shape} and {truth.shape}")
    if not (numpy.isfinite(scores).all() and numpy.isfinite(truth).all()):
        raise StageError("ranking needs finite scores; one is NaN or infinite")
    return scores, truth


def best_first(values) -> numpy.ndarray:
    """Indices from the largest value to the smallest, equal values in their order."""
    return numpy.argsort(-numpy.asarray(values, dtype=float), kind="stable")


def kendall(scores, truth) -> float:
    """Kendall's tau-b, in [-1, 1]; 0 where one side is constant."""
    scores, truth = _pair(scores, truth)
    return float(numpy.nan_to_num(stats.kendalltau(scores, truth).statistic)) if _varied(scores, truth) else 0.0


def spearman(scores, truth) -> float:
    """Spearman's rank correlation, in [-1, 1]; 0 where one side is constant."""
    scores, truth = _pair(scores, truth)
    return float(stats.spearmanr(scores, truth).statistic) if _varied(scores, truth) else 0.0


def _varied(scores: numpy.ndarray, truth: numpy.ndarray) -> bool:
    return bool(numpy.ptp(scores) > 0 and numpy.ptp(truth) > 0)


def _count(number: int, ratio: float) -> int:
    if not 0 < ratio <= 1:
        raise StageError(f"the ratio of a top-K metric must lie in (0, 1], not {ratio}")
    return max(1, int(number * ratio))


def precision_at_top(scores, truth, ratio: float) -> float:
    """P@topK: the share of the truly best K that is among the predicted best K, K = ratio of the list, at least 1."""
    scores, truth = _pair(scores, truth)
    k = _count(len(scores), ratio)
    return len(set(best_first(scores)[:k]) & set(best_first(truth)[:k])) / k


def precision_at_bottom(scores, truth, ratio: float) -> float:
    """P@bottomK: as `precision_at_top` for the worst K."""
    scores, truth = _pair(scores, truth)
    return precision_at_top(-scores, -truth, ratio)


def kendall_at_top(scores, truth, ratio: float) -> float:
    """Kendall's tau among the predicted best K; 0 where K is 1."""
    scores, truth = _pair(scores, truth)
    top = best_first(scores)[: _count(len(scores), ratio)]
    return kendall(scores[top], truth[top]) if len(top) > 1 else 0.0


def _true_ranks_of_top(scores, truth, ratio: float) -> numpy.ndarray:
    scores, truth = _pair(scores, truth)
    rank = numpy.empty(len(truth), dtype=int)
    rank[best_first(truth)] = numpy.arange(1, len(truth) + 1)
    return rank[best_first(scores)[: _count(len(scores), ratio)]]


def best_rank(scores, truth, ratio: float) -> float:
    """BR@K: the best true rank (from 1) among the predicted best K, over the length of the list; 1/N is perfect."""
    return float(_true_ranks_of_top(scores, truth, ratio).min() / len(truth))


def worst_rank(scores, truth, ratio: float) -> float:
    """WR@K: the worst true rank among the predicted best K, over the length of the list."""
    return float(_true_ranks_of_top(scores, truth, ratio).max() / len(truth))
