"""From a pre-trained net to the trained and measured arms of one repetition."""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from stages.lib import artifacts
from stages.lib.data import PREPARED
from stages.lib.errors import StageError
from stages.lib.restoration import sets
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.ghostsr import cost
from stages.papers.ghostsr.arms import Arm
from stages.papers.ghostsr.conversion import converted, convertible, exported, sliced_layers
from stages.papers.ghostsr.folders import TRAIN_SET
from stages.papers.ghostsr.ghost import GhostOptions, intrinsic_count
from stages.papers.ghostsr.inheritance import choose, filter_error, match
from stages.papers.ghostsr.saved import Form, load
from stages.papers.ghostsr.settings import Backbone, Ghost
from stages.papers.ghostsr.training import Data

SCREEN = (1280, 720)  # the enlarged image of published MACs, width and height


def training_data(factor: int) -> Data:
    """The training photographs and their reductions."""
    split = sets.load(TRAIN_SET, "train")
    return Data(split.scaled_pairs(factor), artifacts.sha256(PREPARED / TRAIN_SET / "manifest.json"))


def form_of(arm: Arm, shape: Backbone, ghost: Ghost) -> Form:
    """What an arm's net is. Raises StageError for narrow nets of another backbone than EDSR."""
    if arm.scratch and shape.name != "edsr":
        raise StageError(f"net.name={shape.name}: narrow nets are defined for edsr only; take them out of params.arms")
    options = GhostOptions(ghost.ratio, arm.cheap, ghost.radius, arm.estimator, arm.logits, ghost.per_channel)
    if arm.form == "uniform":
        wanted = cost.total(cost.ghost(cost.dense(shape, 1, 1), options)).parameters
        return Form(dataclasses.replace(shape, features=cost.uniform_width(shape, wanted)), "dense", options)
    return Form(shape, arm.form, options)


def start(arm: Arm, form: Form, trained: nn.Module, repetition: int) -> nn.Module:
    """An arm's net before its own training: the pre-trained one, converted or not, or random weights."""
    seed_everything(derive_seed(repetition, "init"))
    if arm.scratch:
        return form.build()
    if arm.form == "dense":
        return trained
    return converted(trained, form.options, arm.filters, arm.inheritance, derive_seed(repetition, "conversion"))


def costs(form: Form, height: int, width: int) -> cost.Cost:
    """Parameters and MACs of an arm's exported net for a low-resolution image."""
    parts = cost.dense(form.shape, height, width)
    if form.name == "hidden":
        parts = cost.hidden(parts, form.options.ratio)
    return cost.total(cost.ghost(parts, form.options) if form.name in ("ghost", "sliced") else parts)


def load_dense(path: Path, shape: Backbone) -> nn.Module:
    """A pre-trained net. Raises StageError where the file belongs to another shape."""
    net, form = load(path)
    if form != Form(shape):
        raise StageError(f"{path}: holds another net than the params file describes; run the stage pretrain again")
    return net


def fresh(shape: Backbone, repetition: int, device: torch.device) -> nn.Module:
    """The dense net with a repetition's random weights."""
    seed_everything(derive_seed(repetition, "init"))
    return Form(shape).build().to(device)


def checked_export(net: nn.Module, low: torch.Tensor) -> nn.Module:
    """The exported net. Raises StageError unless it answers one image [3, H, W] with the trained net's very bits."""
    sliced = exported(net)
    with torch.no_grad():
        if not torch.equal(net.eval()(low.unsqueeze(0)), sliced(low.unsqueeze(0))):
            raise StageError("an exported net differs from the trained one; report this as a bug")
    return sliced


def sizes(form: Form) -> dict[str, float]:
    """Parameters, and MACs for an image of 1280 x 720 pixels, of a whole exported net and of its converted layers."""
    found = costs(form, SCREEN[1] // form.shape.factor, SCREEN[0] // form.shape.factor)
    return {"parameters": found.parameters, "macs": found.macs, "layer_parameters": found.own_parameters,
            "layer_macs": found.own_macs}  # fmt: skip


def redundancy(dense: nn.Module, ratio: float, repetition: int) -> dict[str, dict[str, float]]:
    """How much of the converted layers' filters is lost, mean over layers: with clustered or random filters and plain
    ghosts, and (`dropped`) with clustered filters and no ghosts.
    """
    lost: dict[str, list[float]] = {"ghost": [], "random": [], "dropped": []}
    seed = derive_seed(repetition, "conversion")
    for name in convertible(dense):
        weight = dense.get_submodule(name).weight.detach().cpu().numpy()
        count, own = intrinsic_count(len(weight), ratio), derive_seed(seed, "filters", name)
        copies, without = filter_error(weight, match(weight, choose(weight, count, "kmeans", own)))
        lost["ghost"].append(copies)
        lost["dropped"].append(without)
        lost["random"].append(filter_error(weight, match(weight, choose(weight, count, "random", own)))[0])
    return {name: {"filter_error": sum(values) / len(values)} for name, values in lost.items()}


def offset_figures(nets: dict[str, nn.Module]) -> dict[str, dict[str, float]]:
    """For each exported net with shifts: the share of offsets off the centre, and of those that training has changed.

    Nets with the official start begin with the offsets that the arm `drawn` keeps.
    """
    offsets = {name: [pair for layer in sliced_layers(net).values() for pair in layer.offsets] for name, net in nets.items()}
    found = {}
    for name, own in offsets.items():
        if own:
            found[name] = {"off_centre": sum(pair != (0, 0) for pair in own) / len(own)}
            first = offsets.get("drawn")
            if first and name != "copy":
                found[name]["moved"] = sum(pair != other for pair, other in zip(own, first, strict=True)) / len(own)
    return found
