"""Ranking metrics on lists whose values are known by hand."""

import numpy
import pytest

from stages.lib import ranking
from stages.lib.errors import StageError

TRUTH = [0.1, 0.9, 0.4, 0.7, 0.2, 0.8, 0.3, 0.6, 0.5, 0.0]


def test_correlations_of_identical_reversed_and_constant_lists():
    for metric in (ranking.kendall, ranking.spearman):
        assert metric(TRUTH, TRUTH) == pytest.approx(1)
        assert metric([-value for value in TRUTH], TRUTH) == pytest.approx(-1)
        assert metric([1.0] * len(TRUTH), TRUTH) == 0


def test_perfect_scores():
    assert ranking.precision_at_top(TRUTH, TRUTH, 0.3) == 1
    assert ranking.precision_at_bottom(TRUTH, TRUTH, 0.3) == 1
    assert ranking.best_rank(TRUTH, TRUTH, 0.1) == pytest.approx(1 / 10)
    assert ranking.worst_rank(TRUTH, TRUTH, 0.3) == pytest.approx(3 / 10)
    assert ranking.kendall_at_top(TRUTH, TRUTH, 0.5) == pytest.approx(1)


def test_the_whole_list_holds_all_of_the_best():
    scores = numpy.random.RandomState(0).rand(10)
    assert ranking.precision_at_top(scores, TRUTH, 1.0) == 1
    assert ranking.best_rank(scores, TRUTH, 1.0) == pytest.approx(1 / 10)
    assert ranking.worst_rank(scores, TRUTH, 1.0) == 1


def test_values_by_hand():
    scores, truth = [4, 3, 2, 1], [1, 4, 3, 2]
    assert ranking.precision_at_top(scores, truth, 0.5) == 0.5
    assert ranking.best_rank(scores, truth, 0.25) == 1.0
    assert ranking.best_rank(scores, truth, 0.5) == 0.25
    assert ranking.kendall(scores, truth) == pytest.approx(0.0)


def test_equal_scores_keep_the_order_of_the_list():
    assert ranking.best_first([1, 2, 2, 1]).tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize(
    ("scores", "truth", "ratio"),
    [([1, 2], [1], 0.5), ([1], [1], 0.5), ([1, float("nan")], [1, 2], 0.5), ([1, 2], [1, 2], 0), ([1, 2], [1, 2], 1.5)],
)
def test_bad_input_is_refused(scores, truth, ratio):
    with pytest.raises(StageError):
        ranking.precision_at_top(scores, truth, ratio)
