"""Numbers, verdicts and units as a reader meets them. The CSV files keep all digits; only these functions round."""

from __future__ import annotations

import math
from decimal import Decimal

from stages.lib import statistics

MINUS = "\u2212"
DASH = "\u2013"

# What each verdict means, in the order of the tables' legend.
MEANINGS = {
    statistics.REPRODUCED: "the whole 95 % interval of the paired difference lies on the claimed side of zero",
    statistics.WITHIN_TOLERANCE: "for claims of \u201cno loss\u201d: the whole interval lies above minus a margin "
    "fixed beforehand",
    statistics.INCONCLUSIVE: "the interval contains zero (or the margin): this run cannot tell",
    statistics.CONTRADICTED: "the whole interval lies on the wrong side",
    statistics.NOT_TESTABLE: "the claim needs a larger scale, or there are fewer than 3 repetitions",
}

KEPT = (
    "A commit beside a scale: that scale takes too long for every run; its figures were measured at that commit "
    "(python -m workflow.keep) and kept in reports/kept. A claim measured at several scales counts once, at the largest."
)

_LABELS = {
    "accuracy_before": "accuracy before fine-tuning",
    "accuracy_after": "accuracy after fine-tuning",
    "accuracy_raw": "accuracy without recalibration",
    "accuracy_matched": "accuracy at matched MACs",
    "macs_ratio": "share of the dense MACs",
    "macs_ratio_matched": "share of the dense MACs, matched",
    "macs": "MACs",
    "macs_sparse": "MACs without zero kernels",
    "bytes": "bytes on disk",
    "latency": "latency (s)",
    "latency_ms": "latency (ms)",
}
# Metrics whose mean is a count: no decimals are shown when all repetitions agree.
_FIRST = ("accuracy_before", "accuracy_after", "accuracy", "macs", "macs_sparse", "parameters", "bytes")


def absent(value: object) -> bool:
    """Whether a table's cell holds nothing (None, NaN or an empty text)."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def metric_label(metric: str) -> str:
    """A metric's name in words."""
    return _LABELS.get(metric, metric.replace("_", " "))


def metric_order(metrics: list[str]) -> list[str]:
    """Metrics without repeats: the common ones first, in a fixed order, then the others as they came."""
    seen = list(dict.fromkeys(metrics))
    return [m for m in _FIRST if m in seen] + [m for m in seen if m not in _FIRST]


def decimals(*values: float) -> int:
    """Decimals that suit numbers of this size: 3 below 10, 2 below 1000, 1 for larger ones with a fraction, 0 for
    whole large ones.
    """
    largest = max((abs(v) for v in values if not absent(v)), default=0.0)
    if largest < 10:
        return 3
    if largest < 1000:
        return 2
    return 0 if largest >= 10_000 or all(absent(v) or float(v).is_integer() for v in values) else 1


def number(value: float, places: int | None = None) -> str:
    """A number with thousands separators and a true minus sign; a dash when absent."""
    if absent(value):
        return DASH
    text = f"{value:,.{decimals(value) if places is None else places}f}"
    return text.replace("-", MINUS if any(digit in text for digit in "123456789") else "")


def signed(value: float, places: int | None = None) -> str:
    """A difference, its sign always shown (zero has none)."""
    text = number(value, places)
    return text if absent(value) or not any(c in "123456789" for c in text) or text.startswith(MINUS) else f"+{text}"


def interval(low: float, high: float, places: int | None = None) -> str:
    """Bounds in brackets; nothing when there are none."""
    if absent(low) or absent(high):
        return ""
    places = decimals(low, high) if places is None else places
    return f"[{signed(low, places)}, {signed(high, places)}]"


def difference(mean: float, low: float, high: float) -> str:
    """A paired difference with its interval; a point interval (no spread) is said to be exact."""
    if absent(mean):
        return DASH
    places = decimals(mean, low, high)
    # A bound just beside zero decides the verdict, so it must not be rounded to zero (rounding noise may).
    while places < 7 and any(not absent(v) and 1e-12 < abs(v) < 0.5 * 10**-places for v in (low, high)):
        places += 1
    if not absent(low) and low == high:
        return f"{signed(mean, places)} (exact)"
    return f"{signed(mean, places)} {interval(low, high, places)}".strip()


def plus_minus(mean: float, low: float, high: float) -> str:
    """A mean with the half-width of its interval; the mean alone when there is no spread or no interval."""
    if absent(mean):
        return DASH
    if absent(low) or low == high:
        return number(mean, 0 if float(mean).is_integer() and abs(mean) >= 10 else None)
    places = decimals(mean, (high - low) / 2)
    return f"{number(mean, places)} \u00b1 {number((high - low) / 2, places)}"


def plain(value: float | None, unit: str = "", beside: float | None = None) -> str:
    """A published figure in its shortest form with its unit; with as many decimals as the figure `beside` it if that
    has more.
    """
    if absent(value):
        return DASH
    places = max(_places(value), 0 if absent(beside) else _places(beside))
    return f"{value:,.{places}f}".replace("-", MINUS) + (f" {unit}" if unit else "")


def _places(value: float) -> int:
    """Decimals of a number's shortest form."""
    return max(0, -int(Decimal(repr(value)).normalize().as_tuple().exponent))


def seconds(value: float) -> str:
    """Core-seconds without decimals; a dash when unknown."""
    return DASH if absent(value) else f"{value:,.0f} s"


def sentence(phrase: str) -> str:
    """The phrase with a capital first letter, the rest (MACs) untouched."""
    return phrase[:1].upper() + phrase[1:]


def engineering(value: float) -> str:
    """A count with three digits and a metric prefix: 144 k, 1.81 G."""
    for power, prefix in ((9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{float(f'{value / 10**power:.3g}'):g}\N{THIN SPACE}{prefix}"
    return f"{value:g}"


def wrap(sentence: str, width: int) -> list[str]:
    """The sentence in lines of at most `width` characters (a longer word stands alone)."""
    lines: list[str] = []
    for word in filter(None, sentence.split(" ")):  # not split(): a no-break space holds
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
