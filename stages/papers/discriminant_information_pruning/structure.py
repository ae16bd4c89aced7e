"""Widths of a net: their MACs, one ratio for all layers, and ratios found at one budget scaled to another."""

from stages.lib import macs
from stages.lib.errors import StageError
from stages.lib.models import family

Widths = dict[str, int]


def cost(record: dict, widths: Widths) -> int:
    """MACs of one image when the sites have these widths."""
    return macs.total(family(record).narrowed(record, widths)).macs


def budget_of(record: dict, share: float) -> int:
    """MACs that a share of the dense net's are. StageError for a share outside (0, 1)."""
    if not 0.0 < share < 1.0:
        raise StageError(f"budget={share}: expected a share of the dense net's MACs in (0, 1)")
    return int(share * macs.total(record).macs)


def check_budget(record: dict, channels: Widths, budget: int) -> None:
    """StageError if even one channel in each layer is more than the budget."""
    least = cost(record, dict.fromkeys(channels, 1))
    if budget < least:
        raise StageError(
            f"budget of {budget} MACs: no structure meets it, one channel in each of {len(channels)} layers takes {least}; "
            "raise the budget"
        )


def scaled(record: dict, channels: Widths, ratios: dict[str, float], budget: int) -> Widths:
    """The widest structure within the budget whose keep ratios are `ratios` times one multiplier (none above 1).

    The multiplier is bisected; single channels then fill what rounding down has left, the largest remainder first, so
    that not one channel more would fit.
    """
    check_budget(record, channels, budget)
    low, high = 0.0, max(1.0 / ratio for ratio in ratios.values())
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(record, _rounded(channels, ratios, middle)) <= budget else (low, middle)
    widths = _rounded(channels, ratios, low)
    remainders = {name: channels[name] * min(1.0, low * ratios[name]) - widths[name] for name in channels}
    order = sorted(channels, key=lambda name: -remainders[name])
    while any([_grow(record, channels, widths, name, budget) for name in order]):  # a list: all have their turn
        pass
    return widths


def _grow(record: dict, channels: Widths, widths: Widths, name: str, budget: int) -> bool:
    """Give a site one channel more, in place, if there is one and the budget allows it; tells whether it did."""
    fits = widths[name] < channels[name] and cost(record, widths | {name: widths[name] + 1}) <= budget
    widths[name] += fits
    return fits


def _rounded(channels: Widths, ratios: dict[str, float], multiplier: float) -> Widths:
    return {name: max(1, int(count * min(1.0, multiplier * ratios[name]))) for name, count in channels.items()}


def keep_after(channels: int, ratio: float) -> int:
    """int(C (1 - r)), at least 1: channels left at a pruned share r (a rounding error below a whole number counts as it)."""
    return max(1, int(channels * (1 - ratio) + 1e-9))
