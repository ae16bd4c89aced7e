"""Intervals and verdicts: every comparison in the reports passes through this module.

An arm's repetitions and its peer's share data order and initial weights, so they are compared seed by seed. The
interval is Student's t interval of the mean difference (W. S. Gosset, 1908, "The probable error of a mean").

The rules, in full:

- Superiority ("better than"): the claim is *reproduced* when the whole interval lies on the claimed side of zero,
  *contradicted* when it lies on the other side, otherwise *inconclusive*.
- Non-inferiority ("not worse by more than a margin fixed beforehand"): *reproduced* when the whole interval lies on the
  better side of zero, *within tolerance* when it lies above minus the margin, *contradicted* when it lies below minus
  the margin, otherwise *inconclusive*.
- A bound that touches zero or the margin does not clear it.
- Fewer than `LEAST_SEEDS` repetitions: *not testable at this scale*, whatever the interval says.
- No spread between repetitions (counted quantities such as MACs): the interval is the point itself, under the same
  rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

REPRODUCED = "reproduced"
WITHIN_TOLERANCE = "within tolerance"
INCONCLUSIVE = "inconclusive"
CONTRADICTED = "contradicted"
NOT_TESTABLE = "not testable at this scale"
VERDICTS = (REPRODUCED, WITHIN_TOLERANCE, INCONCLUSIVE, CONTRADICTED, NOT_TESTABLE)

LEVEL = 0.95
LEAST_SEEDS = 3
# Differences this small beside their operands are rounding of equal numbers (0.1 + 0.2 against 0.3), not an effect.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """Mean of `n` values and the two-sided bounds around it; the bounds are NaN when `n` is 1 (no spread can be
    estimated).
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length, in the unit of the values."""
        return (self.high - self.low) / 2

    def mirrored(self) -> Interval:
        """The interval of the negated values."""
        return Interval(-self.mean, -self.high, -self.low, self.n)


def _finite(values: Sequence[float], what: str) -> np.ndarray:
    """The values as a float64 vector; ValueError if empty, not one-dimensional or not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{what}: expected a non-empty list of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: NaN or infinite value")
    return array


def quantile(n: int, level: float = LEVEL) -> float:
    """Student's t quantile for a two-sided interval of `n` values (`n` >= 2)."""
    if n < 2:
        raise ValueError(f"a spread needs 2 values or more, got {n}")
    return float(student.ppf((1 + level) / 2, n - 1))


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean and t interval of independent values. Raises ValueError if there are none or one is not finite."""
    array = _finite(values, "mean interval")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, math.nan, math.nan, 1)
    spread = float(array.std(ddof=1))
    if spread <= ROUNDING * float(np.abs(array).max()):
        return Interval(mean, mean, mean, array.size)
    half = quantile(array.size, level) * spread / math.sqrt(array.size)
    return Interval(mean, mean - half, mean + half, array.size)


def paired_interval(method: Sequence[float], baseline: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean and t interval of `method[i] - baseline[i]`, item i of both being the same repetition. Raises ValueError
    on unequal lengths.
    """
    left, right = _finite(method, "method"), _finite(baseline, "baseline")
    if left.size != right.size:
        raise ValueError(f"paired values expected, got {left.size} and {right.size}")
    difference = left - right
    size = np.maximum(np.abs(left), np.abs(right))
    difference[np.abs(difference) <= ROUNDING * size] = 0.0
    interval = mean_interval(difference, level)
    # Equal differences of large operands (MACs) may still differ in the last bit: that spread is rounding too.
    if interval.n > 1 and difference.std(ddof=1) <= ROUNDING * float(size.max()):
        return Interval(interval.mean, interval.mean, interval.mean, interval.n)
    return interval


def verdict(interval: Interval, *, test: str = "superiority", better: str = "higher", margin: float | None = None) -> str:
    """The verdict on the paired difference method - baseline, by the rules at the top of this module.

    `test` is superiority or noninferiority, `better` is higher or lower (which direction favours the method), `margin`
    (> 0, in the metric's unit) belongs to non-inferiority alone. Raises ValueError on anything else.
    """
    _check_rule(test, better, margin)
    if interval.n < LEAST_SEEDS:
        return NOT_TESTABLE
    gain = interval if better == "higher" else interval.mirrored()
    if gain.low > 0:
        return REPRODUCED
    floor = 0.0 if margin is None else -margin
    if margin is not None and gain.low > floor:
        return WITHIN_TOLERANCE
    return CONTRADICTED if gain.high < floor else INCONCLUSIVE


def _check_rule(test: str, better: str, margin: float | None) -> None:
    """ValueError unless the three settings of a verdict belong together."""
    if better not in ("higher", "lower"):
        raise ValueError(f"better: expected higher or lower, got {better!r}")
    if test not in ("superiority", "noninferiority"):
        raise ValueError(f"test: expected superiority or noninferiority, got {test!r}")
    if test == "superiority" and margin is not None:
        raise ValueError("margin: only a noninferiority test has one")
    if test == "noninferiority" and not (margin is not None and 0 < margin < math.inf):
        raise ValueError("margin: a noninferiority test needs a positive number")


def spread_of(interval: Interval, level: float = LEVEL) -> float:
    """Standard deviation of the values behind an interval of `mean_interval` (NaN for a single value)."""
    if interval.n < 2:
        return math.nan
    return interval.half_width * math.sqrt(interval.n) / quantile(interval.n, level)


def seeds_needed(spread: float, half_width: float, level: float = LEVEL, most: int = 1_000_000) -> int | None:
    """Least n (>= `LEAST_SEEDS`) whose t interval has at most this half-width when values scatter by `spread` (standard
    deviation).

    None when even `most` repetitions would not do. Raises ValueError on a negative spread or a half-width that is not
    positive.
    """
    if not spread >= 0 or not half_width > 0:
        raise ValueError(f"expected spread >= 0 and half_width > 0, got {spread} and {half_width}")

    def reached(n: int) -> bool:
        return quantile(n, level) * spread / math.sqrt(n) <= half_width

    if reached(LEAST_SEEDS):
        return LEAST_SEEDS
    if not reached(most):
        return None
    low, high = LEAST_SEEDS, most  # the half-width falls with n, so bisection finds the first n that reaches it
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
