"""Pruning a whole net: layers in forward order, each judged by the loss at the next pivot (Algorithm 1, selection).

The cached features of a layer come from the net as pruned so far, its target output from the unpruned net.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.lib import criteria
from stages.lib.models import Site
from stages.lib.runtime import derive_seed
from stages.lib.surgery import kept_count
from stages.papers.dcp.arms import Arm
from stages.papers.dcp.forward import cache, captured, only_trainable, replayed, run_to_pivot
from stages.papers.dcp.heads import Supervised
from stages.papers.dcp.kernels import KernelGroups, live_channels
from stages.papers.dcp.problem import LayerProblem, Objective, Solver
from stages.papers.dcp.selection import ChannelGroups, Choice, Groups, Limits, Score, select


@dataclass(frozen=True)
class Recipe:
    """One arm's settings. `steps` bounds the greedy steps of a layer: the top ceil(groups / steps) join at a time."""

    arm: Arm
    ratio: float
    steps: int
    epsilon: float
    objective: Objective
    solver: Solver
    score: Score
    seed: int


@dataclass(frozen=True)
class LayerResult:
    """What became of one layer: channels before, indices kept, share of kernels kept, L(V_t)."""

    site: str
    channels: int
    kept: Tensor
    kernels: int
    losses: list[float]


def prune_stage(
    pruned: Supervised, whole: Supervised, images: Tensor, labels: Tensor, p: int, recipe: Recipe
) -> list[LayerResult]:
    """Selects in every prunable layer of stage p, that is between pivots p-1 and p; `pruned` is changed in place.

    images (N, C, H, W) and labels (N,) are the selection set.
    """
    first, end = ([0, *pruned.ends])[p], pruned.ends[p]
    here, there = _features(pruned.net, images, first), _features(whole.net, images, first)
    results = []
    for block in range(first, end):
        for site in [s for s in pruned.net.sites() if s.block == block]:
            targets = _output_of(whole.net, site, there)
            results.append(_prune_site(pruned, site, here, targets, labels, p, recipe))
        here, there = _advance(pruned.net, here, block), _advance(whole.net, there, block)
    return results


def _prune_site(
    pruned: Supervised, site: Site, features: Tensor, targets: Tensor, labels: Tensor, p: int, recipe: Recipe
) -> LayerResult:
    """Selection in one layer; everything but that layer's weight (and bias) stays as it is."""
    layer = pruned.net.get_submodule(site.consumer)
    groups, limits = _groups_and_limits(layer, recipe)
    order = _order(pruned.net, site, recipe)
    with only_trainable(pruned, layer):
        cached = cache(pruned.net, site, features)
        with replayed(pruned.net, site, cached) as replay:
            run = run_to_pivot(pruned, site, p, recipe.objective.classify > 0, replay)
            problem = LayerProblem(layer, run, cached, targets, labels, recipe.objective)
            if order is None or recipe.arm.refit:
                choice = select(problem, groups, limits, recipe.solver, order)
            else:
                choice = _as_it_is(problem, groups, order[: limits.keep])
    return _result(site, layer, choice, recipe)


def _order(net: nn.Module, site: Site, recipe: Recipe) -> Tensor | None:
    """A site's channels by a criterion that is computed once; None for DCP's own greedy order."""
    if recipe.arm.order == "greedy":
        return None
    filters = net.get_submodule(site.producer).weight
    if recipe.arm.order == "l1":
        return criteria.l1_order(filters)
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, site.name))
    return criteria.random_order(len(filters), generator).to(filters.device)


def _as_it_is(problem: LayerProblem, groups: Groups, kept: Tensor) -> Choice:
    """Pruning without a re-fit: the kept columns stay as they were."""
    chosen = torch.zeros(groups.count(problem.start), dtype=torch.bool, device=problem.start.device)
    chosen[kept] = True
    problem.set_weight(problem.start * groups.expand(chosen, problem.start))
    return Choice(kept.tolist(), chosen, [])


def _groups_and_limits(layer: nn.Conv2d, recipe: Recipe) -> tuple[Groups, Limits]:
    """What a group is in this layer and how many stay."""
    channels = kept_count(layer.in_channels, recipe.ratio)
    if recipe.arm.kernels:  # as many kernels as the kept channels would have
        groups, keep = KernelGroups(), layer.out_channels * channels
    else:
        groups, keep = ChannelGroups(recipe.score), channels
    epsilon = None
    if recipe.arm.adaptive:
        keep, epsilon = groups.count(layer.weight), recipe.epsilon
    return groups, Limits(keep, math.ceil(keep / recipe.steps), epsilon)


def _result(site: Site, layer: nn.Conv2d, choice: Choice, recipe: Recipe) -> LayerResult:
    if recipe.arm.kernels:
        kept, kernels = live_channels(layer.weight), len(choice.order)
    else:
        kept = torch.nonzero(choice.chosen).flatten()
        kernels = len(kept) * layer.out_channels
    return LayerResult(site.name, layer.in_channels, kept.cpu(), kernels, choice.losses)


@torch.no_grad()
def _features(net: nn.Module, images: Tensor, blocks: int) -> Tensor:
    """Features behind the first `blocks` blocks, eval mode."""
    net.eval()
    return net.segment(net.stem(images), 0, blocks)


@torch.no_grad()
def _advance(net: nn.Module, features: Tensor, block: int) -> Tensor:
    return net.segment(features, block, block + 1)


@torch.no_grad()
def _output_of(net: nn.Module, site: Site, features: Tensor) -> Tensor:
    """Output O^b of a site's consumer layer."""
    with captured(net.get_submodule(site.consumer)) as outputs:
        _advance(net, features, site.block)
    return outputs[0]
