"""Intervals against scipy, and every verdict at its edges."""

import math

import numpy as np
import pytest
from scipy import stats

from stages.lib import statistics as st
from stages.lib.statistics import Interval, mean_interval, paired_interval, seeds_needed, spread_of, verdict


@pytest.mark.parametrize("n", [2, 3, 5, 25])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_interval_agrees_with_scipy(n, level):
    values = np.random.default_rng(n).normal(0.6, 0.02, n)
    oracle = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    got = mean_interval(values, level)
    assert (got.low, got.high) == pytest.approx((oracle.low, oracle.high), rel=1e-12)
    assert got.mean == pytest.approx(values.mean())
    assert got.n == n


def test_paired_interval_agrees_with_scipy_and_not_with_the_unpaired_test():
    rng = np.random.default_rng(1)
    shared = rng.normal(0.7, 0.1, 8)
    method, baseline = shared + rng.normal(0.02, 0.005, 8), shared + rng.normal(0, 0.005, 8)
    got = paired_interval(method, baseline)
    paired = stats.ttest_rel(method, baseline).confidence_interval(0.95)
    unpaired = stats.ttest_ind(method, baseline).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((paired.low, paired.high), rel=1e-9)
    assert got.half_width < 0.2 * (unpaired.high - unpaired.low) / 2


def test_pairs_are_matched_by_position():
    assert paired_interval([1, 2, 3], [0, 1, 2]).half_width == 0
    assert paired_interval([1, 2, 3], [2, 1, 0]).half_width > 1


def test_interval_covers_the_true_mean_at_its_level():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(3, 1, 5)) for _ in range(4000)]
    covered = np.mean([i.low <= 3 <= i.high for i in intervals])
    assert abs(covered - 0.95) < 0.011  # about three standard errors


@pytest.mark.parametrize(
    ("low", "high", "better", "expected"),
    [
        (0.01, 0.03, "higher", st.REPRODUCED),
        (0.0, 0.03, "higher", st.INCONCLUSIVE),  # a bound that touches zero does not clear it
        (-0.01, 0.03, "higher", st.INCONCLUSIVE),
        (-0.03, 0.0, "higher", st.INCONCLUSIVE),
        (-0.03, -0.01, "higher", st.CONTRADICTED),
        (-0.03, -0.01, "lower", st.REPRODUCED),
        (-0.03, 0.0, "lower", st.INCONCLUSIVE),
        (0.0, 0.03, "lower", st.INCONCLUSIVE),
        (0.01, 0.03, "lower", st.CONTRADICTED),
        (0.0, 0.0, "higher", st.INCONCLUSIVE),
        (0.02, 0.02, "higher", st.REPRODUCED),  # no spread: the point decides
        (0.02, 0.02, "lower", st.CONTRADICTED),
    ],
)
def test_superiority(low, high, better, expected):
    assert verdict(Interval((low + high) / 2, low, high, 5), better=better) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.03, st.REPRODUCED),
        (0.0, 0.03, st.WITHIN_TOLERANCE),
        (-0.019, 0.03, st.WITHIN_TOLERANCE),
        (-0.019, -0.001, st.WITHIN_TOLERANCE),  # a small, certain loss is still inside the margin
        (0.0, 0.0, st.WITHIN_TOLERANCE),
        (-0.02, 0.03, st.INCONCLUSIVE),  # touching the margin
        (-0.05, 0.03, st.INCONCLUSIVE),
        (-0.05, -0.001, st.INCONCLUSIVE),
        (-0.05, -0.02, st.INCONCLUSIVE),
        (-0.05, -0.021, st.CONTRADICTED),
    ],
)
@pytest.mark.parametrize("better", ["higher", "lower"])
def test_noninferiority(low, high, expected, better):
    interval = Interval((low + high) / 2, low, high, 5)
    interval = interval if better == "higher" else interval.mirrored()
    assert verdict(interval, test="noninferiority", margin=0.02, better=better) == expected


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_seeds_are_never_a_verdict(n):
    interval = paired_interval([0.9] * n, [0.1] * n)
    assert verdict(interval) == st.NOT_TESTABLE
    assert verdict(interval, test="noninferiority", margin=0.1) == st.NOT_TESTABLE
    assert verdict(paired_interval([0.9] * 3, [0.1] * 3)) == st.REPRODUCED


def test_one_value_has_no_bounds():
    one = mean_interval([0.5])
    assert one.mean == 0.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(spread_of(one))


def test_rounding_is_not_an_effect():
    """0.1 + 0.2 exceeds 0.3 in the last bit, the same in every seed: without a guard that is a "certain" gain."""
    same = paired_interval([0.1 + 0.2] * 5, [0.3] * 5)
    assert (same.low, same.high) == (0.0, 0.0)
    assert verdict(same) == st.INCONCLUSIVE


def test_counted_quantities_have_a_point_interval():
    fewer = paired_interval([144192.0] * 5, [448320.0] * 5)
    assert fewer.low == fewer.high == -304128.0
    assert verdict(fewer, better="lower") == st.REPRODUCED
    assert mean_interval([0.1] * 7).half_width == 0


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [math.inf, 1.0], [[1.0, 2.0]]])
def test_values_that_cannot_be_averaged_are_refused(bad):
    with pytest.raises(ValueError, match="mean interval"):
        mean_interval(bad)
    with pytest.raises(ValueError, match="method"):
        paired_interval(bad, [1.0, 1.0])


def test_unpaired_lengths_are_refused():
    with pytest.raises(ValueError, match="3 and 2"):
        paired_interval([1, 2, 3], [1, 2])


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"better": "up"}, "better"),
        ({"test": "equivalence"}, "test"),
        ({"margin": 0.1}, "margin"),
        ({"test": "noninferiority"}, "margin"),
        ({"test": "noninferiority", "margin": 0.0}, "margin"),
        ({"test": "noninferiority", "margin": -0.1}, "margin"),
        ({"test": "noninferiority", "margin": math.nan}, "margin"),
    ],
)
def test_impossible_rules_are_refused(settings, names):
    with pytest.raises(ValueError, match=names):
        verdict(Interval(0, -1, 1, 5), **settings)


def test_spread_is_recovered_from_the_interval():
    values = np.random.default_rng(3).normal(size=9)
    assert spread_of(mean_interval(values)) == pytest.approx(values.std(ddof=1), rel=1e-12)


@pytest.mark.parametrize(("spread", "half_width"), [(0.02, 0.01), (0.01, 0.01), (0.03, 0.005), (0.007, 0.05), (0.0, 0.01)])
def test_seeds_needed_is_the_first_n_that_reaches_the_half_width(spread, half_width):
    n = seeds_needed(spread, half_width)
    assert n >= st.LEAST_SEEDS
    assert stats.t.ppf(0.975, n - 1) * spread / n**0.5 <= half_width
    if n > st.LEAST_SEEDS:
        assert stats.t.ppf(0.975, n - 2) * spread / (n - 1) ** 0.5 > half_width


def test_seeds_needed_edges():
    assert seeds_needed(1.0, 1e-6) is None
    for spread, half_width in [(-1, 1), (1, 0), (math.nan, 1)]:
        with pytest.raises(ValueError, match="spread"):
            seeds_needed(spread, half_width)
