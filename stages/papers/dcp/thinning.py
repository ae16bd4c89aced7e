"""From an arm's settings to a thin net: selection (or none), surgery, and the record of what was kept."""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib import surgery
from stages.lib.checks import at_least, one_of
from stages.lib.data import AnySplit, Split
from stages.lib.errors import StageError
from stages.lib.models import build
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.dcp.arms import ARMS, find
from stages.papers.dcp.aux_training import fine_tune_stage
from stages.papers.dcp.heads import Supervised, attach
from stages.papers.dcp.kernels import freeze_zero_kernels
from stages.papers.dcp.problem import Objective, Solver
from stages.papers.dcp.prunes import LayerResult, Recipe, prune_stage

if TYPE_CHECKING:
    from stages.papers.dcp.prune import PruneParams

TOLERANCE = 1e-3  # masked and thin logits may differ by rounding; more is a bug in the surgery


def recipe_of(name: str, params: "PruneParams", repetition: int) -> Recipe:
    """An arm's settings, checked; StageError names the key of the params file that is wrong."""
    arm = find(name)
    _check(params)
    aim = Objective(params.rebuild if arm.rebuild else 0.0, params.lam if arm.classify else 0.0, params.form)
    solver = Solver(params.lr, weight_decay=params.weight_decay, batch=params.batch, passes=params.passes)
    ratio = 0.0 if arm.order == "all" else params.ratios.get(name, params.ratio)
    seed = derive_seed(repetition, "random arm")
    return Recipe(arm, ratio, params.steps, params.epsilon, aim, solver, params.score, seed)


def _check(params: "PruneParams") -> None:
    for key, value, allowed in (
        ("schedule", params.schedule, ("joint", "stagewise")),
        ("form", params.form, ("release", "paper")),
        ("score", params.score, ("release", "paper")),
    ):
        one_of(key, value, allowed)
    for name, ratio in {"": params.ratio, **params.ratios}.items():
        key = f"params.ratios.{name}" if name else "params.ratio"
        if name and name not in ARMS:
            raise StageError(f"{key}: there is no such arm; choose one of {', '.join(ARMS)}")
        if not 0.0 <= ratio < 1.0:
            raise StageError(f"{key}={ratio}: expected a share in [0, 1)")
    for key in ("steps", "batch", "passes"):
        at_least(key, getattr(params, key), 1)
    for key in ("lr", "weight_decay", "rebuild", "lam", "epsilon"):
        at_least(key, getattr(params, key), 0)


def pruned_net(
    name: str, params: "PruneParams", aux: Supervised, dense: nn.Module, split: AnySplit, chosen: Split, repetition: int
) -> tuple[nn.Module, dict]:
    """(thin net, JSON-able record) of one repetition; `chosen` is the selection set, `aux` and `dense` stay as they are."""
    recipe = recipe_of(name, params, repetition)
    if recipe.arm.order == "all":
        return copy.deepcopy(aux.net), _record(repetition, _everything(aux.net), 0.0)
    if recipe.arm.order == "fresh":
        return _fresh(aux.net, recipe.ratio, repetition)
    if params.schedule == "stagewise":
        pruned, results = _stagewise(params, aux, dense, split, chosen, recipe, repetition)
    else:
        pruned, results = _joint(aux, chosen, recipe)
    thin = surgery.cut(pruned.net, {r.site: r.kept for r in results})
    gap = _surgery_gap(pruned.net, thin, chosen.x[:200])
    print(f"{name} {repetition}: kept {sum(len(r.kept) for r in results)} of {sum(r.channels for r in results)} channels")
    return thin, _record(repetition, results, gap)


def _joint(aux: Supervised, chosen: Split, recipe: Recipe) -> tuple[Supervised, list[LayerResult]]:
    """The release: all stages are pruned one after the other, with no training in between."""
    pruned, results = copy.deepcopy(aux), []
    for p in range(len(aux.ends)):
        results += prune_stage(pruned, aux, chosen.x, chosen.y, p, recipe)
    return pruned, results


def _stagewise(
    params: "PruneParams", aux: Supervised, dense: nn.Module, split: AnySplit, chosen: Split, recipe: Recipe, repetition: int
) -> tuple[Supervised, list[LayerResult]]:
    """Algorithm 1: from the dense net with fresh heads, fine-tune with L_S^p and L_f, prune stage p, and so on.

    The target of a stage is the net as fine-tuned for it, with this and later stages still whole [inferred].
    """
    from stages.lib.dense import limited

    seed_everything(derive_seed(repetition, "heads"))
    pruned, results = attach(copy.deepcopy(dense), aux.ends, len(split.classes), split.x.shape[1:]), []
    some, options = limited(split, params.stagewise.limit, repetition).to(chosen.x.device), params.stagewise
    for p in range(len(aux.ends)):
        layers = [pruned.net.get_submodule(s.consumer) for s in pruned.net.sites() if s.block < ([0, *aux.ends])[p]]
        fine_tune_stage(
            pruned, p, some, freeze_zero_kernels(layers), epochs=options.epochs, lr=options.lr, batch=options.batch,
            weight_decay=options.weight_decay, seed=repetition, label=f"stagewise {repetition}",
        )  # fmt: skip
        results += prune_stage(pruned, copy.deepcopy(pruned), chosen.x, chosen.y, p, recipe)
    return pruned, results


def _fresh(net: nn.Module, ratio: float, repetition: int) -> tuple[nn.Module, dict]:
    """A new net of the widths that the ratio leaves; the initial weights follow from the repetition."""
    results = [
        LayerResult(r.site, r.channels, r.kept[: surgery.kept_count(r.channels, ratio)], 0, []) for r in _everything(net)
    ]
    record = surgery.cut(net, {r.site: r.kept for r in results}).record()
    seed_everything(derive_seed(repetition, "init"))
    return build(record), _record(repetition, results, 0.0)


def _everything(net: nn.Module) -> list[LayerResult]:
    layers = {site.name: net.get_submodule(site.consumer) for site in net.sites()}
    return [
        LayerResult(name, conv.in_channels, torch.arange(conv.in_channels), conv.in_channels * conv.out_channels, [])
        for name, conv in layers.items()
    ]


@torch.no_grad()
def _surgery_gap(masked: nn.Module, thin: nn.Module, images: Tensor) -> float:
    """Largest difference of the logits of the masked and the thin net; StageError where it is not rounding."""
    gap = float((masked.eval()(images) - thin.eval()(images)).abs().max())
    if not gap < TOLERANCE:
        raise StageError(f"surgery: masked and thin nets differ by {gap:.2g}; expected rounding only, report this as a bug")
    return gap


def _record(repetition: int, results: list[LayerResult], gap: float) -> dict:
    layers = [
        {"site": r.site, "channels": r.channels, "kept": r.kept.tolist(), "kernels": r.kernels, "losses": r.losses}
        for r in results
    ]
    return {"seed": repetition, "layers": layers, "surgery_gap": gap}
