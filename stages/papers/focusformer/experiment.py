"""From trained supernets to the figures of every arm."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from stages.lib import artifacts, files, training
from stages.lib.data import AnySplit, Split, stratified
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.vit.parts import drop_rates
from stages.papers.focusformer import cost, front
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.arms import ARMS
from stages.papers.focusformer.choosing import Chosen, choose
from stages.papers.focusformer.sampler import Sampler
from stages.papers.focusformer.space import Architecture
from stages.papers.focusformer.supernet import Supernet
from stages.papers.focusformer.training import RecipeTrainee, fit, sampler_updates, update_images
from stages.papers.focusformer.transformer import VisionTransformer, record_of

if TYPE_CHECKING:
    from stages.papers.focusformer.settings import Params, Search

END_SHARE = 0.8  # a step trains the upper end where its architecture costs at least this share of the highest budget


def divide(split: AnySplit, held_out: int) -> tuple[Split, Split]:
    """(images that train the supernet, images for rewards and fitness), classes in equal shares, the same for all seeds."""
    if not held_out < len(split):
        raise StageError(f"params.held_out={held_out}: expected fewer than the {len(split)} training images")
    index = stratified(split.y.numpy(), {"fit": len(split) - held_out, "held_out": held_out}, 0)
    return split.take(torch.from_numpy(index["fit"])), split.take(torch.from_numpy(index["held_out"]))


def supernet_folder(scale: str, dataset: str, name: str, seed: int) -> Path:
    """Where the training stage leaves a supernet."""
    return files.RUNS / "focusformer" / "supernets" / scale / dataset / name / str(seed)


def load_supernet(path: Path, params: "Params", shape: torch.Size, classes: int, device: torch.device) -> Supernet:
    """A trained supernet in eval mode. Raises StageError where the file belongs to another one."""
    tensors, record = artifacts.load_tensors(path)
    net = Supernet(params.supernet, cost.canvas(params.supernet, shape, classes))
    if record != net.record():
        raise StageError(f"{path}: holds another supernet than the params file describes; run the training stage again")
    net.load_state_dict(tensors)
    return net.to(device).eval()


def load_sampler(path: Path, params: "Params", net: Supernet) -> Sampler:
    """A trained sampler on the CPU. Raises StageError where the file belongs to another one."""
    tensors, record = artifacts.load_tensors(path)
    sampler = Sampler(params.space, cost.budgets(params.space, net.canvas, params.budgets), params.sampler.hidden)
    if record != sampler_record(sampler):
        raise StageError(f"{path}: holds another sampler than the params file describes; run the training stage again")
    sampler.load_state_dict(tensors)
    return sampler.eval()


def sampler_record(sampler: Sampler) -> dict:
    """Space and anchors of a sampler, as plain JSON values."""
    space = {name: list(getattr(sampler.space, name)) for name in ("embed", "heads", "ratio", "depth")}
    return {"kind": "focusformer sampler", "space": space, "anchors": sampler.anchors.tolist(),
            "hidden": sampler.budgets.shape[1]}  # fmt: skip


def choose_all(
    nets: dict[str, Supernet], sampler: Sampler, held_out: Split, params: "Params", options: "Search", repetition: int
) -> dict[str, list[Chosen]]:
    """For every arm its architecture for each budget."""
    budgets = cost.budgets(params.space, next(iter(nets.values())).canvas, params.budgets)
    return {
        name: [
            choose(arm.choice, nets[arm.supernet], sampler, params.space, held_out, options, params.sampler.draws, budget,
                   repetition)
            for budget in budgets
        ]
        for name, arm in ARMS.items()
    }  # fmt: skip


def measure(net: Supernet, chosen: list[Chosen], split: Split, params: "Params", device: torch.device) -> dict[str, float]:
    """Figures of one arm: inherited accuracies on a split, hypervolume, budgets met, and what choosing cost."""
    budgets = cost.budgets(params.space, net.canvas, params.budgets)
    reached = [training.evaluate(net.extract(one.architecture), split, device) for one in chosen]
    macs = [cost.macs(one.architecture, net.canvas) for one in chosen]
    most = cost.macs(spaces.largest(params.space), net.canvas)
    return {
        "accuracy": sum(reached) / len(reached),
        "accuracy_ends": (reached[0] + reached[-1]) / 2,
        **{f"accuracy_{i}": value for i, value in enumerate(reached, 1)},
        **{f"macs_{i}": value for i, value in enumerate(macs, 1)},
        "hypervolume": front.hypervolume(list(zip(macs, reached, strict=True)), most),
        "within_budget": sum(one.met and own <= budget for one, own, budget in zip(chosen, macs, budgets)) / len(budgets),
        "budget_gap": sum(abs(own / budget - 1.0) for own, budget in zip(macs, budgets, strict=True)) / len(budgets),
        "evaluations": sum(one.evaluations for one in chosen),
    }


def search_images(name: str, chosen: list[Chosen], params: "Params", steps: int, held_out: int) -> int:
    """Held-out images that went through sub-networks for an arm's choices, the sampler's updates included."""
    spent = sum(one.evaluations for one in chosen) * held_out
    if ARMS[name].supernet == "focus":
        spent += sampler_updates(params, steps) * update_images(params)
    return spent


def end_share(costs: torch.Tensor, budgets: list[int]) -> float:
    """Share of the training steps whose architecture lies at an end: within the lowest budget, or near the highest."""
    low, high = costs <= budgets[0], (costs >= END_SHARE * budgets[-1]) & (costs <= budgets[-1])
    return float((low | high).double().mean())


def retrain(
    found: Architecture, params: "Params", epochs: int, split: Split, repetition: int, device: torch.device, state: Path | None
) -> VisionTransformer:
    """The stand-alone net of an architecture after `epochs` passes from random weights over the whole training split."""
    seed_everything(derive_seed(repetition, "retrain"))
    rates = drop_rates(params.supernet.drop_path, params.supernet.depth)
    record = record_of(found, cost.canvas(params.supernet, split.x.shape[1:], len(split.classes)))
    net = VisionTransformer(record, rates, params.supernet.deviation).to(device)
    options = dataclasses.replace(params.recipe, epochs=epochs, warmup=min(params.recipe.warmup, epochs - 1))
    steps = -(-len(split) // options.batch)
    fit(
        RecipeTrainee(net, options, steps, record),
        split,
        derive_seed(repetition, "retrain"),
        device,
        state,
        f"retrain {repetition}",
    )
    return net.eval()
