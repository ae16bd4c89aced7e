"""How well a supernet's scores rank the table, and what choosing by them costs."""

from collections.abc import Sequence

import numpy

from stages.lib import ranking
from stages.lib.errors import StageError


def values(scores: Sequence[Sequence[float]], truth: Sequence[float], ratio: float) -> dict[str, float]:
    """Metrics of scores [checkpoints, architectures] against true accuracies.

    kendall, spearman, precision (P@top), best_rank (BR@K) and regret belong to the last checkpoint, kendall_first to the first
    and kendall_mean to the mean over all: the whole budget. Regret: the table's best truth less that of the best score; of
    equal scores the first architecture counts, and the table is in random order.
    """
    curve = [ranking.kendall(row, truth) for row in scores]
    last = scores[-1]
    return {
        "kendall": curve[-1], "kendall_first": curve[0], "kendall_mean": float(numpy.mean(curve)),
        "spearman": ranking.spearman(last, truth), "precision": ranking.precision_at_top(last, truth, ratio),
        "best_rank": ranking.best_rank(last, truth, ratio), "regret": regret(last, truth),
        "one_shot_accuracy": float(numpy.mean(last)),
    }  # fmt: skip


def point(scores: Sequence[float], truth: Sequence[float], ratio: float) -> dict[str, float]:
    """The curves' values at one checkpoint."""
    return {
        "kendall": ranking.kendall(scores, truth), "precision": ranking.precision_at_top(scores, truth, ratio),
        "best_rank": ranking.best_rank(scores, truth, ratio),
    }  # fmt: skip


def regret(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Best truth less the truth of the architecture that a full scan of the scores chooses."""
    return float(max(truth) - truth[int(ranking.best_first(scores)[0])])


def regret_of_random_choice(truth: Sequence[float]) -> float:
    """Its expectation when the architecture is drawn uniformly."""
    return float(max(truth) - numpy.mean(truth))


def aligned(rows: Sequence[dict], architectures: Sequence[str], origin: str) -> list[float]:
    """True accuracies in the order of the scored architectures. StageError where one is not in the table."""
    table = {row["architecture"]: row["accuracy"] for row in rows}
    absent = [name for name in architectures if name not in table]
    if absent:
        raise StageError(f"{origin}: lacks {absent[0]}; run the truth stage again with the same section `space`")
    return [table[name] for name in architectures]
