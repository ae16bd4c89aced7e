"""One run of an arm: from random weights to a thin net and the record of how it came about."""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from stages.lib import macs, models, surgery
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import Net
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.chex import allocation, leverage
from stages.papers.chex.arms import find
from stages.papers.chex.descent import Trainee, fit
from stages.papers.chex.exploration import LOGGED, Budget, Explorer
from stages.papers.chex.prunable import prunable_layers
from stages.papers.chex.settings import Net as NetParams
from stages.papers.chex.settings import Params, fits

TOLERANCE = 1e-3  # masked and thin logits may differ by rounding; more is a bug in the surgery


def explore(
    net: Net, split: Split, params: Params, repetition: int, device: torch.device, state: Path | None = None,
    arm: str = "chex",
) -> tuple[Net, dict]:  # fmt: skip
    """Explore the channels of `net` (random weights, changed in place) during one training run of params.sgd.

    Returns the thin net and a record that JSON can hold: per layer what was kept and how many channels were ever
    active, per exploration step the widths, residuals and entropies, and the MACs. Order of the data and draws
    follow from the repetition. Raises StageError for impossible settings and for nets that cannot be pruned.
    """
    params.sgd.check()
    params.exploration.check()
    fits(params.exploration, params.sgd)
    net = net.to(device)
    explorer = Explorer(
        net, params.sgd, params.exploration, find(arm), _steps(split, params), derive_seed(repetition, "explore"),
        budget_of(net, params.exploration.macs),
    )  # fmt: skip
    _fit(explorer, split, repetition, device, state, f"{arm} {repetition}")
    masks = {layer.name: mask for layer, mask in zip(explorer.layers, explorer.masks, strict=True) if layer.consumer}
    kept = {name: mask.nonzero().flatten().cpu() for name, mask in masks.items()}
    thin = surgery.cut(net, kept)
    record = {"seed": repetition, "layers": _explored(explorer), "events": _events(explorer)}
    return thin, {**record, **_sizes(net, thin), "surgery_gap": surgery_gap(net, thin, split.x[:100].to(device))}


def run(arm: str, params: Params, split: Split, repetition: int, device: torch.device, state: Path) -> tuple[Net, dict]:
    """(net, record) of an arm after all its passes; initial weights and order of the data are those of all arms."""
    kind = find(arm).kind
    net = fresh(params.net, split, repetition).to(device)
    if kind == "explore":
        return explore(net, split, params, repetition, device, state, arm)
    if kind == "two_step":
        return two_step(net, split, params, repetition, device, state)
    whole = [surgery.channels(net, site) for site in net.sites()]
    widths = allocation.uniform_widths(whole, cost_of(net), final_macs(net, params)) if kind == "uniform" else whole
    return from_scratch(net, widths, split, params, repetition, device, state, arm)


def fresh(params: NetParams, split: Split, repetition: int) -> Net:
    """The dense net with the repetition's random weights and BN scales at params.gamma; StageError if it cannot be pruned."""
    seed_everything(derive_seed(repetition, "init"))
    net = models.construct(params.name, **params.options, classes=len(split.classes))
    if net.record()["input"] != list(split.x.shape[1:]):
        wanted, found = net.record()["input"], list(split.x.shape[1:])
        raise StageError(f"net.options: the net takes {wanted} images, the data are {found}; correct the params file")
    prunable_layers(net)
    return scaled(net, params.gamma)


def scaled(net: nn.Module, gamma: float) -> nn.Module:
    """The net itself, every BN scale set to `gamma`."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, gamma)
    return net


def from_scratch(
    net: Net, widths: Sequence[int], split: Split, params: Params, repetition: int, device: torch.device,
    state: Path | None, label: str,
) -> tuple[Net, dict]:  # fmt: skip
    """A net of fixed widths, trained from random weights; those of `net` itself where nothing is narrower."""
    whole = [surgery.channels(net, site) for site in net.sites()]
    thin = net
    if list(widths) != whole:
        seed_everything(derive_seed(repetition, "init"))
        thin = scaled(models.build(_narrowed(net, widths)), params.net.gamma).to(device)
    _fit(Trainee(thin, params.sgd, _steps(split, params)), split, repetition, device, state, f"{label} {repetition}")
    kept = [list(range(width)) for width in widths]
    return thin, {"seed": repetition, "layers": _fixed(net, kept), "events": [], **_sizes(net, thin), "surgery_gap": 0.0}


def two_step(
    net: Net, split: Split, params: Params, repetition: int, device: torch.device, state: Path | None
) -> tuple[Net, dict]:
    """Train, prune once to the MACs of the other arms, fine-tune: together the passes of sgd.epochs."""
    options, label, steps = params.two_step, f"two_step {repetition}", _steps(split, params)
    first = dataclasses.replace(params.sgd, epochs=options.epochs)
    # Warm-up is for random weights.
    second = dataclasses.replace(params.sgd, epochs=params.sgd.epochs - options.epochs, lr=options.lr, warmup=0.0)
    _fit(Trainee(net, first, steps), split, repetition, device, state, label)
    kept = _pruned_once(net, options.rule, final_macs(net, params))
    thin = surgery.cut(net, dict(zip([site.name for site in net.sites()], kept, strict=True))).to(device)
    record = {"seed": repetition, "layers": _fixed(net, [index.tolist() for index in kept]), "events": []}
    tuned = state.with_name(f"tuned-{state.name}") if state else None
    _fit(Trainee(thin, second, steps), split, repetition, device, tuned, f"{label} tuned")
    return thin, {**record, **_sizes(net, thin), "surgery_gap": 0.0}


def _pruned_once(net: Net, rule: str, target: float) -> list[torch.Tensor]:
    """Channels [k] of every site to keep, by CHEX's rule applied once or by equal shares and L1 norms."""
    layers, cost = prunable_layers(net), cost_of(net)
    matrices = [leverage.columns(net.get_submodule(layer.producer).weight) for layer in layers]
    if rule == "chex":
        scales = [net.get_submodule(layer.norm).weight for layer in layers]
        widths = allocation.widths(scales, allocation.sparsity_at_cost(scales, cost, target))
    else:
        widths = allocation.uniform_widths([w.shape[1] for w in matrices], cost, target)
    score = "leverage" if rule == "chex" else "l1"
    return [leverage.kept_columns(w, k, score) for w, k in zip(matrices, widths, strict=True)]


def cost_of(net: Net) -> allocation.Cost:
    """MACs of the net with given widths of its sites, in their order, by the closed form."""
    return lambda widths: macs.total(_narrowed(net, widths)).macs


def _narrowed(net: Net, widths: Sequence[int]) -> dict:
    names = [site.name for site in net.sites()]
    return type(net).narrowed(net.record(), dict(zip(names, widths, strict=True)))


def budget_of(net: Net, share: float) -> Budget | None:
    """The MACs to end with, as a share of the dense net's; None for 0."""
    return Budget(cost_of(net), share * macs.total(net.record()).macs) if share else None


def final_macs(net: Net, params: Params) -> float:
    """MACs that arms without exploration aim at: the budget, or where there is none a uniform net of sparsity S."""
    if params.exploration.macs:
        return params.exploration.macs * macs.total(net.record()).macs
    widths = [surgery.channels(net, site) for site in net.sites()]
    return cost_of(net)([max(1, allocation.place(1.0 - params.exploration.sparsity, width)) for width in widths])


def _steps(split: Split, params: Params) -> int:
    return -(-len(split) // params.sgd.batch)


def _fit(model: Trainee, split: Split, repetition: int, device: torch.device, state: Path | None, label: str) -> list[float]:
    return fit(model, split, device, derive_seed(repetition, "explore"), state, label)


@torch.no_grad()
def surgery_gap(masked: nn.Module, thin: nn.Module, images: torch.Tensor) -> float:
    """Largest difference of the logits of the masked and the thin net; StageError where it is not rounding."""
    a, b = (copy.deepcopy(net).eval()(images) for net in (masked, thin))
    gap = float((a - b).abs().max())
    if not gap <= TOLERANCE * max(1.0, float(a.abs().max())):
        raise StageError(f"surgery: masked and thin nets differ by {gap:.2g}; expected rounding only, report this as a bug")
    return gap


def _sizes(dense: Net, thin: Net) -> dict[str, int]:
    return {"macs": macs.total(thin.record()).macs, "dense_macs": macs.total(dense.record()).macs,
            "parameters": macs.parameters(thin)}  # fmt: skip


def _fixed(net: Net, kept: list[list[int]]) -> list[dict]:
    return [
        {"site": site.name, "channels": surgery.channels(net, site), "kept": index, "ever": len(index)}
        for site, index in zip(net.sites(), kept, strict=True)
    ]


def _explored(explorer: Explorer) -> list[dict]:
    return [
        {"site": layer.name, "channels": len(mask), "kept": mask.nonzero().flatten().tolist(), "ever": int(seen.sum())}
        for layer, mask, seen in zip(explorer.layers, explorer.masks, explorer.seen, strict=True)
    ]


def _events(explorer: Explorer) -> list[dict]:
    columns = explorer.log.cpu().permute(0, 2, 1).tolist()
    return [
        {"time": time, **dict(zip(LOGGED, values, strict=True))}
        for time, values in zip(explorer.events.values(), columns, strict=True)
    ]
