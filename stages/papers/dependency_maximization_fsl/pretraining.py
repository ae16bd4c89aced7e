"""Training of a backbone by plain classification of the base classes (section 3.7)."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.lib import training
from stages.lib.adamw import decay_groups
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import build
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.trainee import Trainee, fit
from stages.papers.dependency_maximization_fsl import augmentation, backbone
from stages.papers.dependency_maximization_fsl.settings import Training


def smoothed(smoothing: float) -> training.Loss:
    """Mean cross-entropy with label smoothing."""

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(net(x), y, label_smoothing=smoothing)

    return loss


def check_side(split: Split, side: int) -> None:
    """StageError where images are smaller than what the net sees."""
    if min(split.x.shape[2:]) < side:
        raise StageError(f"net.side={side}: images are {list(split.x.shape[2:])}; lower it or prepare larger images")


def pretrain(params: Training, split: Split, repetition: int, device: torch.device, state: Path | None) -> backbone.FeatureNet:
    """The backbone of a repetition, in eval mode; initial weights and order of the data follow from the repetition."""
    check_side(split, params.net.side)
    recipe, label = params.recipe, f"backbone {repetition}"
    seed_everything(derive_seed(repetition, "init"))
    net = build(backbone.record_of(params.net, split.x.shape[1], len(split.classes))).to(device)
    augment = augmentation.augmentation(recipe, params.net.side, split.mean, split.std)
    if augment is None:
        split = dataclasses.replace(split, x=augmentation.centre(split.x, params.net.side).contiguous())
    seed, loss = derive_seed(repetition, "pretraining"), smoothed(recipe.smoothing)
    if recipe.optimiser == "adam":
        about = ("few-shot backbone", recipe)
        trainee = Trainee(net, decay_groups(net, recipe.weight_decay), lambda step: recipe.lr, *about)
        fit(trainee, split, epochs=recipe.epochs, batch=recipe.batch, seed=seed, device=device, augment=augment, loss=loss,
            state=state, label=label)  # fmt: skip
    else:  # the recipe is named in the label, so that a saved state is not taken up under another one
        training.train(net, split, epochs=recipe.epochs, lr=recipe.lr, batch=recipe.batch, seed=seed, nesterov=False,
                       weight_decay=recipe.weight_decay, device=device, augment=augment, loss=loss, state=state,
                       label=f"{label}, recipe {derive_seed(0, recipe) % 10**6}")  # fmt: skip
    return net.eval()
