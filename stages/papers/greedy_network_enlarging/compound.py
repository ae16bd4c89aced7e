"""The baseline: compound scaling of all stages by one phi, tuned to given MACs (Tan and Le, 2019; section 2)."""

import math
from collections.abc import Sequence

from stages.lib.stage import StageError
from stages.papers.greedy_network_enlarging.allocation import Allocation, Slot
from stages.papers.greedy_network_enlarging.settings import Uniform
from stages.papers.greedy_network_enlarging.space import Space

HALVINGS = 60
LARGEST_PHI = 64.0


def scaled(space: Space, depth: float, width: float, resolution: float) -> Allocation:
    """The base with blocks, channels and pixels times a factor: depths rounded up, widths to the divisor."""
    base = space.base
    # 1.2^phi of a whole number must not be rounded up for a difference in the last bit.
    depths = tuple(math.ceil(depth * d - 1e-9) for d in base.depths)
    widths = tuple(space.effective(Slot("width", s), width * w) for s, w in enumerate(base.widths))
    return Allocation(depths, widths, round(resolution * base.resolution))


def compound(space: Space, bases: Uniform, phi: float) -> Allocation:
    """alpha(phi) = (ceil(d^phi d_0), round(w^phi w_0), round(r^phi r_0)); the base at phi = 0."""
    return scaled(space, bases.depth**phi, bases.width**phi, bases.resolution**phi)


def matched(space: Space, bases: Uniform, target: int) -> Allocation:
    """The compound net of MACs nearest to `target`.

    Depths and resolutions jump, all stages at once. Where the two nets on either side of a jump miss the target by more
    than `match`, the depths and resolution of each are kept and its widths take one common factor of their own.
    StageError where that misses too.
    """
    below, above = _bracket(space, bases, target)
    nets = [below, above]
    if min(_gap(space, net, target) for net in nets) > bases.match * target:
        nets += [_width_tuned(space, net, target) for net in (below, above)]
    best = min(nets, key=lambda net: _gap(space, net, target))  # the first of equal ones
    if _gap(space, best, target) > bases.match * target:
        raise StageError(
            f"uniform scaling: the nearest net to {target} MACs has {space.macs(best)}, further than uniform.match="
            f"{bases.match:g}; take a larger net or widen the match"
        )
    return best


def _gap(space: Space, net: Allocation, target: int) -> int:
    return abs(space.macs(net) - target)


def _bracket(space: Space, bases: Uniform, target: int) -> tuple[Allocation, Allocation]:
    """Nets on both sides of the phi at which MACs, a rising staircase, pass the target."""
    if target < space.macs(space.base):
        raise StageError(f"uniform scaling: {target} MACs are fewer than the base's {space.macs(space.base)}")
    low, high = 0.0, 1.0
    while space.macs(compound(space, bases, high)) < target:
        low, high = high, 2.0 * high
        if high > LARGEST_PHI:
            raise StageError(f"uniform scaling reaches no {target} MACs; expected a base above 1 in uniform")
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if space.macs(compound(space, bases, middle)) < target else (low, middle)
    return compound(space, bases, low), compound(space, bases, high)


def _width_tuned(space: Space, net: Allocation, target: int) -> Allocation:
    """The net's depths and resolution with the base's widths times the factor that comes nearest to the target."""
    narrowest = Allocation(net.depths, (1,) * net.stages, net.resolution)
    return nearest_width(space, narrowest, [1.0] * net.stages, target)


def nearest_width(space: Space, least: Allocation, slopes: Sequence[float], target: int) -> Allocation:
    """`least` with the widths w_0 factor^slope, where these are larger than its own, and the one factor (>= 1/1000) of MACs
    nearest to the target.
    """

    def net(factor: float) -> Allocation:
        rows = enumerate(zip(space.base.widths, slopes, least.widths, strict=True))
        widths = tuple(space.effective(Slot("width", s), max(own, w * factor**slope)) for s, (w, slope, own) in rows)
        return Allocation(least.depths, widths, least.resolution)

    low, high = 1e-3, 1.0
    while space.macs(net(high)) < target and high < 1e6:
        low, high = high, 2.0 * high
    for _ in range(HALVINGS // 2):
        middle = (low + high) / 2
        low, high = (middle, high) if space.macs(net(middle)) < target else (low, middle)
    return min((net(low), net(high)), key=lambda found: _gap(space, found, target))
