"""Random stage-wise allocations of given MACs, none smaller than a given net: the baseline without a search."""

import numpy

from stages.lib.stage import StageError
from stages.papers.greedy_network_enlarging.allocation import Allocation
from stages.papers.greedy_network_enlarging.compound import nearest_width
from stages.papers.greedy_network_enlarging.settings import Search
from stages.papers.greedy_network_enlarging.space import Space

TRIES = 2_000


def draw(space: Space, least: Allocation, target: int, match: float, search: Search, seed: int, count: int) -> list[Allocation]:
    """`count` different allocations that contain `least`, each within `match` of the target MACs.

    Blocks of every stage and the resolution are uniform between `least` and what the target and search.most allow by
    themselves; widths are w_0 times a common factor to powers drawn from [0, 1), with the factor that meets the target.
    StageError where so many are not found.
    """
    random = numpy.random.RandomState(seed % 2**32)
    depth_range = [_depths(space, least, s, target, search) for s in range(least.stages)]
    sides = _resolutions(space, least, target, search)
    found: list[Allocation] = []
    for _ in range(TRIES):
        depths = tuple(int(random.choice(choices)) for choices in depth_range)
        resolution = int(random.choice(sides))
        slopes = random.random_sample(least.stages).tolist()
        narrowest = Allocation(depths, least.widths, resolution)
        if space.macs(narrowest) > (1.0 + match) * target:
            continue
        net = nearest_width(space, narrowest, slopes, target)
        fits = abs(space.macs(net) - target) <= match * target and max(net.widths) <= search.most.width
        if fits and net not in found:
            found.append(net)
            if len(found) == count:
                return found
    raise StageError(
        f"random allocations: {len(found)} of {count} within {match:.0%} of {target} MACs; raise search.most or uniform.match"
    )


def _depths(space: Space, least: Allocation, stage: int, target: int, search: Search) -> list[int]:
    """Depths of a stage from the least one up to the last that fits into the target with all else least."""
    choices = [least.depths[stage]]
    while choices[-1] + search.step.depth <= search.most.depth:
        depths = list(least.depths)
        depths[stage] = choices[-1] + search.step.depth
        if space.macs(Allocation(tuple(depths), least.widths, least.resolution)) > target:
            break
        choices.append(depths[stage])
    return choices


def _resolutions(space: Space, least: Allocation, target: int, search: Search) -> list[int]:
    choices = [least.resolution]
    while choices[-1] + search.step.resolution <= search.most.resolution:
        side = choices[-1] + search.step.resolution
        if space.macs(Allocation(least.depths, least.widths, side)) > target:
            break
        choices.append(side)
    return choices
