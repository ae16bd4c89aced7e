"""Expected improvement and the searches, on scores by a formula."""

import numpy
import pytest

from stages.papers.multi_dimensional_vit_compression import searching
from stages.papers.multi_dimensional_vit_compression import space as spaces
from stages.papers.multi_dimensional_vit_compression.gaussian_process import acquisition, expected_improvement
from stages.papers.multi_dimensional_vit_compression.space import Policy
from tests.papers.test_mdvit_space import SMALL, options


def score(found: Policy) -> float:
    """Some blocks matter more than others; in steps, as accuracies are."""
    lost = sum(w * (1 - n / 72) ** 1.3 for w, n in zip((0.5, 0.05, 0.1, 0.3), found.neurons, strict=True))
    lost += sum(w * (1 - h / 6) ** 1.3 for w, h in zip((0.05, 0.4, 0.1, 0.2), found.heads, strict=True))
    return round(250 * (0.9 - lost - 0.1 * found.sparsity**2)) / 250


# --- expected improvement -------------------------------------------------------------------------


def test_it_is_the_mean_of_the_gain():
    random = numpy.random.RandomState(0)
    for mean, deviation, best in ((0.5, 0.1, 0.6), (0.7, 0.2, 0.6), (0.6, 0.05, 0.6)):
        drawn = numpy.maximum(random.normal(mean, deviation, 400_000) - best, 0.0).mean()
        found = expected_improvement(numpy.array([mean]), numpy.array([deviation]), best)[0]
        assert found == pytest.approx(drawn, rel=0.02)


def test_it_is_never_negative_and_rises_with_uncertainty():
    mean, deviation = numpy.full(30, 0.4), numpy.linspace(0.0, 0.5, 30)
    found = expected_improvement(mean, deviation, 0.5)
    assert (found >= 0).all() and (numpy.diff(found) >= 0).all() and found[-1] > 0.05
    assert found[0] == 0.0
    assert expected_improvement(numpy.array([0.9]), numpy.array([0.0]), 0.5)[0] == 0.0  # as the specification has it


def test_nothing_is_expected_where_a_score_is_known():
    random = numpy.random.RandomState(0)
    points = random.uniform(size=(12, 3))
    scores = points.sum(1)
    found = acquisition(points, scores, points, options(jitter=1e-8), 0)
    assert found.max() < 1e-3 * scores.std()


def test_the_better_region_is_preferred():
    points = numpy.linspace(0, 0.8, 8)[:, None]
    found = acquisition(points, points[:, 0] ** 2, numpy.array([[0.02], [0.85]]), options(), 0)
    assert found[1] > 10 * found[0]


# --- searches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("guided", [True, False])
def test_a_search_keeps_its_promises(guided):
    space = spaces.make(SMALL, options(), 0.5)
    trials = searching.search(space, score, options(), 3, guided)
    assert len(trials) == options().evaluations
    assert all(abs(trial.flops - space.budget) <= space.tolerance * space.budget for trial in trials)
    assert all(trial.score == score(trial.policy) for trial in trials)
    assert searching.best(trials).score == max(trial.score for trial in trials)
    assert trials == searching.search(space, score, options(), 3, guided)
    assert trials != searching.search(space, score, options(), 4, guided)
    assert len({trial.policy for trial in trials}) == len(trials)


def test_both_searches_begin_alike_and_expected_improvement_wins():
    leads = []
    for seed in range(4):
        space = spaces.make(SMALL, options(), 0.5)
        guided, other = (searching.search(space, score, options(), seed, flag) for flag in (True, False))
        assert guided[:8] == other[:8] and guided != other
        leads.append(searching.best(guided).score - searching.best(other).score)
    assert sum(leads) / 4 > 0.02


def test_a_space_that_runs_out():
    space = spaces.make(SMALL, options(tolerance=0.03), 0.6, ("tokens",))
    trials = searching.search(space, score, options(), 0, guided=True)
    assert 1 <= len(trials) < options().evaluations
    assert len({space.keys(numpy.array([[0.0] * 8 + [trial.policy.sparsity]]))[0] for trial in trials}) == len(trials)


def test_of_equal_scores_the_first_wins():
    one, two = (searching.Trial(Policy((1,), (1,), t), 1, 0.5) for t in (0.1, 0.2))
    assert searching.best([one, two]) is one
    assert one.record()["policy"]["sparsity"] == 0.1
