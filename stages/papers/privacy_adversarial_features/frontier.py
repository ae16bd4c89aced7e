"""Utility kept against secret leaked: normalised by what the raw features give, worst attacker, area under all prices."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.lib.errors import StageError


def accuracies(predicted: dict[str, Tensor], y: Tensor) -> dict[str, Tensor]:
    """Accuracy (P,) of each family's predictions (P, m) of labels (m,)."""
    return {family: (one == y).double().mean(1) for family, one in predicted.items()}


def balanced(predicted: Tensor, y: Tensor) -> Tensor:
    """Mean over the classes of labels (m,) of the share predicted rightly (P,), of predictions (P, m)."""
    return torch.stack([(predicted[:, y == c] == c).double().mean(1) for c in y.unique().tolist()]).mean(0)


def normalised(accuracy: float, chance: float, raw: float) -> float:
    """0 at the majority rate, 1 at the accuracy on the raw features. StageError where those tell nothing."""
    if not raw > chance:
        raise StageError(f"the raw features predict a label with {raw:.3f}, no better than its majority rate {chance:.3f}")
    return (accuracy - chance) / (raw - chance)


def area(points: Sequence[tuple[float, float]]) -> float:
    """Share of the unit square that is dominated by points (utility retained, leakage): more retained, less leaked."""
    corners = sorted(((_unit(kept), 1.0 - _unit(leaked)) for kept, leaked in points), reverse=True)
    total, height = 0.0, 0.0
    for place, (kept, private) in enumerate(corners):
        following = corners[place + 1][0] if place + 1 < len(corners) else 0.0
        height = max(height, private)
        total += (kept - following) * height
    return total


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)
