"""Which alpha and beta SRS may have, and the pairs that the paper and its re-implementations start from. No torch here."""

import math

from stages.lib.errors import StageError

PRESETS: dict[str, tuple[float, float]] = {
    "arxiv": (5.0, 3.0),  # the arXiv text's experiments
    "alt": (3.0, 2.0),  # the second pair that is reported
    "prcv": (2.0, 3.0),  # the conference version
}
LEAST = 1e-2  # least alpha and beta while training
MARGIN = 0.95  # beta stays below this share of e alpha while training
CONSTRAINTS = ("clamp", "project")


def preset(name: str) -> tuple[float, float]:
    """(alpha, beta) by the name of a preset; StageError for another name."""
    if name not in PRESETS:
        raise StageError(f"preset={name}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def check(alpha: float, beta: float) -> None:
    """StageError unless both are positive and finite and beta < e alpha, where the denominator has no zero.

    D(x) = x / alpha + exp(-x / beta) is least at x = -beta ln(beta / alpha), with value (beta / alpha)(1 - ln(beta / alpha)).
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0.0 < value < math.inf:
            raise StageError(f"{name}={value}: expected a finite number above 0")
    if not beta < math.e * alpha:
        raise StageError(
            f"alpha={alpha} beta={beta}: SRS has a pole where beta >= e alpha = {math.e * alpha:.4g}; lower beta or raise alpha"
        )
