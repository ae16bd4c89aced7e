"""From an arm's name to its net before fine-tuning, and the record of what it keeps."""

import copy
from typing import TYPE_CHECKING, Any

import torch

from stages.lib import surgery
from stages.lib.checks import at_least
from stages.lib.data import AnySplit, Split
from stages.lib.errors import StageError
from stages.lib.models import Net, build
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.discriminant_information_pruning import information, maps, precision, structure
from stages.papers.discriminant_information_pruning.arms import ARMS, find
from stages.papers.discriminant_information_pruning.criteria import criterion
from stages.papers.discriminant_information_pruning.division import divided
from stages.papers.discriminant_information_pruning.greedy import greedy, record, surgery_gap

if TYPE_CHECKING:
    from stages.papers.discriminant_information_pruning.prune import PruneParams


def check(params: "PruneParams") -> None:
    """StageError names the key of the params file that is wrong."""
    information.check(params)
    for name, share in {"": params.budget, **params.budgets}.items():
        key = f"params.budgets.{name}" if name else "params.budget"
        if name and name not in ARMS:
            raise StageError(f"{key}: there is no such arm; choose one of {', '.join(ARMS)}")
        if not 0.0 < share < 1.0:
            raise StageError(f"{key}={share}: expected a share of the dense net's MACs in (0, 1)")
    if params.layers not in ("accuracy", "information"):
        raise StageError(f"params.layers={params.layers}: expected accuracy or information")
    for key in ("delta", "most"):
        if not 0.0 < getattr(params, key) < 1.0:
            raise StageError(f"params.{key}={getattr(params, key)}: expected a share in (0, 1)")
    for key, least in (("epochs", 0), ("every", 1), ("batch", 1)):
        at_least(f"interlude.{key}", getattr(params.interlude, key), least)
    precision.check(params.precision.levels, params.precision.mean)


def pruned_net(
    name: str, params: "PruneParams", dense: Net, split: AnySplit, repetition: int, device: torch.device
) -> tuple[Net, dict[str, Any]]:
    """(the arm's net, JSON-able record) of one repetition; `split` is the whole training split, `dense` stays as it is."""
    arm = find(name)
    check(params)
    maps.check(dense)
    budget = structure.budget_of(dense.record(), params.budgets.get(name, params.budget))
    if arm.structure == "greedy":
        thin, told = greedy(dense, split, budget, arm.score, params, repetition, device)
    elif arm.structure == "whole":
        thin, told = copy.deepcopy(dense), record(dense, _everything(dense), repetition, 0.0)
    elif arm.structure == "bits":
        thin, told = _fewer_bits(arm.score, params, dense, split, repetition, device)
    else:
        ratios = dict.fromkeys(_everything(dense), 1.0)
        if arm.structure == "transferred":
            default = structure.budget_of(dense.record(), params.budget)
            found = greedy(dense, split, default, arm.score, params, repetition, device)[1]["layers"]
            ratios = {layer["site"]: len(layer["kept"]) / layer["channels"] for layer in found}
        widths = structure.scaled(dense.record(), _channels(dense), ratios, budget)
        if arm.structure == "fresh":
            return _fresh(dense, widths, repetition)
        thin, told = _with_widths(arm.score, widths, params, dense, split, repetition, device)
    print(f"{name} {repetition}: {[len(layer['kept']) for layer in told['layers']]}", flush=True)
    return thin, told


def _channels(net: Net) -> structure.Widths:
    return {site.name: surgery.channels(net, site) for site in net.sites()}


def _everything(net: Net) -> dict[str, torch.Tensor]:
    return {name: torch.arange(count) for name, count in _channels(net).items()}


def _batches(params: "PruneParams", split: AnySplit, repetition: int, device: torch.device) -> list[Split]:
    images, _ = divided(split.to(device), params.limit, params.holdout)
    return information.balanced_batches(images, params.batches, params.batch, repetition)


def _with_widths(
    score: str,
    widths: structure.Widths,
    params: "PruneParams",
    dense: Net,
    split: AnySplit,
    repetition: int,
    device: torch.device,
) -> tuple[Net, dict[str, Any]]:
    """Given widths, the channels chosen at once by their scores in the net that is not pruned."""
    net, batches = copy.deepcopy(dense).to(device).eval(), _batches(params, split, repetition, device)
    chosen, kept = criterion(score, net, batches, params, repetition), _everything(net)
    kept = {site: index.to(device) for site, index in kept.items()}
    chosen.refresh(net, kept)
    best = {site.name: chosen.best(site, kept[site.name], widths[site.name]) for site in net.sites()}
    thin = surgery.cut(net, best).eval()
    gap = surgery_gap(surgery.mask(net, best), thin, batches[0].x[:200])
    return thin, record(dense, best, repetition, gap)


def _fresh(dense: Net, widths: structure.Widths, repetition: int) -> tuple[Net, dict[str, Any]]:
    """A new net of those widths; the initial weights follow from the repetition."""
    kept = {name: torch.arange(count) for name, count in widths.items()}
    seed_everything(derive_seed(repetition, "init"))
    return build(type(dense).narrowed(dense.record(), widths)), record(dense, kept, repetition, 0.0)


def _fewer_bits(
    score: str, params: "PruneParams", dense: Net, split: AnySplit, repetition: int, device: torch.device
) -> tuple[Net, dict[str, Any]]:
    """The dense net with quantised weights; the record holds the bits of every channel."""
    net = copy.deepcopy(dense).to(device).eval()
    bits = precision.bits_of(net, score, _batches(params, split, repetition, device), params)
    precision.attach(net, bits)
    precision.bake(net, bits)
    told = record(dense, _everything(dense), repetition, 0.0)
    return net, {**told, "bits": {name: each.tolist() for name, each in bits.items()}}
