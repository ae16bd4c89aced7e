"""How a ghost module takes over the weights of the convolution that it replaces."""

from typing import NamedTuple

import numpy
import torch
from torch import nn

from stages.lib.errors import StageError
from stages.papers.ghostsr.clustering import representatives, squared_distances
from stages.papers.ghostsr.ghost import GhostModule

FILTERS = ("kmeans", "random")
INHERITANCE = ("none", "scrambled", "matched")


class Chosen(NamedTuple):
    """A layer's filters in the order of the concatenation: intrinsic ones, then those that ghosts stand for."""

    intrinsic: list[int]
    ghosts: list[int]


def choose(weight: numpy.ndarray, count: int, how: str, seed: int) -> list[int]:
    """Indices, ascending, of the intrinsic filters of a convolution's weights [c_o, c_i, k, k], by clusters or at random."""
    if how not in FILTERS:
        raise StageError(f"filters={how}: expected one of {', '.join(FILTERS)}")
    if how == "random":
        return sorted(numpy.random.RandomState(seed % 2**32).permutation(len(weight))[:count].tolist())
    return representatives(weight.reshape(len(weight), -1), count, seed)


def match(weight: numpy.ndarray, intrinsic: list[int]) -> Chosen:
    """Give every other filter the ghost of an intrinsic one, least total squared distance between the two (Hungarian method).

    No intrinsic filter serves a second time before all have served. Sources come first among the intrinsic filters,
    since ghosts are made from the first maps.
    """
    from scipy.optimize import linear_sum_assignment

    filters = weight.reshape(len(weight), -1).astype(numpy.float64)
    others = [index for index in range(len(weight)) if index not in set(intrinsic)]
    if not others:
        return Chosen(intrinsic, [])
    times = -(-len(others) // len(intrinsic))
    cost = numpy.tile(squared_distances(filters[others], filters[intrinsic]), (1, times))
    if times > 1:
        cost = cost[:, : len(others)]
    rows, slots = linear_sum_assignment(cost)
    taken = sorted(zip(slots.tolist(), rows.tolist()))
    if times == 1:
        used = [slot for slot, _ in taken]
        intrinsic = [intrinsic[i] for i in used] + [one for i, one in enumerate(intrinsic) if i not in set(used)]
    return Chosen(intrinsic, [others[row] for _, row in taken])


def filter_error(weight: numpy.ndarray, chosen: Chosen) -> tuple[float, float]:
    """Shares of the filters' squared norms [c_o, c_i, k, k] that are lost: by plain ghosts, and by leaving ghosts out.

    Where filters are near copies of each other the first is small; above the second, copies are worse than nothing.
    """
    filters = weight.reshape(len(weight), -1).astype(numpy.float64)
    whole, others = (filters**2).sum(), filters[chosen.ghosts]
    sources = filters[[chosen.intrinsic[k % len(chosen.intrinsic)] for k in range(len(chosen.ghosts))]]
    return float(((others - sources) ** 2).sum() / whole), float((others**2).sum() / whole)


@torch.no_grad()
def inherit(module: GhostModule, conv: nn.Conv2d, filters: str, inheritance: str, seed: int) -> Chosen | None:
    """Copy the chosen filters and biases of a convolution into a ghost module.

    inheritance: matched (outputs keep the convolution's channel order), scrambled (as the paper's text reads: intrinsic
    maps first, whatever the next layer expects), none (weights stay as initialised; None is returned).
    """
    if inheritance not in INHERITANCE:
        raise StageError(f"inherit={inheritance}: expected one of {', '.join(INHERITANCE)}")
    if inheritance == "none":
        return None
    weight = conv.weight.detach().cpu().numpy()
    chosen = match(weight, choose(weight, module.intrinsic, filters, seed))
    module.primary.weight.copy_(conv.weight[chosen.intrinsic])
    if conv.bias is not None:
        module.primary.bias.copy_(conv.bias[chosen.intrinsic])
    if isinstance(module.cheap, nn.Conv2d):  # a depth-wise operation starts from plain copies too
        module.cheap.weight.zero_()[:, :, module.cheap.padding[0], module.cheap.padding[1]] = 1.0
    if inheritance == "matched":
        module.order.copy_(torch.tensor([*chosen.intrinsic, *chosen.ghosts]).argsort())
    return chosen
