"""Ranges of parameters: each check raises one line that names the key below `params` and says what was expected."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stages.lib.errors import StageError


def at_least(key: str, value: float, least: float) -> None:
    """StageError unless least <= value and the value is finite (NaN is refused)."""
    if not least <= value < math.inf:
        raise StageError(f"params.{key}={value}: expected {least:g} or more")


def above(key: str, value: float, low: float = 0.0) -> None:
    """StageError unless low < value and the value is finite (NaN is refused)."""
    if not low < value < math.inf:
        raise StageError(f"params.{key}={value}: expected a finite number above {low:g}")


def between(key: str, value: float, low: float, high: float) -> None:
    """StageError unless low <= value < high (NaN is refused)."""
    if not low <= value < high:
        raise StageError(f"params.{key}={value}: expected a finite number of {low:g} or more and below {high:g}")


def share(key: str, value: float, least: float = 0.0) -> None:
    """StageError unless least <= value <= 1 (NaN is refused)."""
    if not least <= value <= 1.0:
        raise StageError(f"params.{key}={value}: expected a share from {least:g} to 1")


def one_of(key: str, value: object, names: Sequence[object]) -> None:
    """StageError unless the value is one of the names."""
    if value not in names:
        raise StageError(f"params.{key}={value}: expected one of {', '.join(map(str, names))}")
