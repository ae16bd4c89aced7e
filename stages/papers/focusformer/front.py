"""Fronts of accuracy against cost, and the hypervolume that they dominate."""

from collections.abc import Sequence


def hypervolume(points: Sequence[tuple[float, float]], most: float) -> float:
    """Area dominated by (cost, accuracy) points, cheap and accurate being good.

    The reference is accuracy 0 at cost `most`; costs are divided by `most`, so the result lies in [0, 1].
    """
    area, best, sweep = 0.0, 0.0, sorted(points)
    for i, (cost, accuracy) in enumerate(sweep):
        best = max(best, accuracy)
        end = min(sweep[i + 1][0], most) if i + 1 < len(sweep) else most
        area += best * max(0.0, end - cost) / most
    return area
