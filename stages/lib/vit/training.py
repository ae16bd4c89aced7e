"""Training a transformer that classifies, by DeiT's recipe."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from stages.lib.adamw import decay_groups
from stages.lib.data import Split
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.trainee import Trainee, fit
from stages.lib.vit import recipe as recipes
from stages.lib.vit.settings import Recipe


def train(
    net: nn.Module, split: Split, recipe: Recipe, repetition: int, device: torch.device | str = "cpu",
    state: Path | None = None, label: str = "train",
) -> list[float]:  # fmt: skip
    """Train in place and return the mean loss of each pass.

    Order of the data and all draws of mixing and dropping follow from the repetition alone, so that arms are paired;
    resumable. Raises StageError for a loss that is not finite.
    """
    net.to(device)
    steps = -(-len(split) // recipe.batch)
    groups, rate = decay_groups(net, recipe.weight_decay), partial(recipes.rate, recipe, steps)
    trainee = Trainee(net, groups, rate, recipe, steps, clip=recipe.clip).to(device)
    seed_everything(derive_seed(repetition, "draws"))
    return fit(
        trainee, split, epochs=recipe.epochs, batch=recipe.batch, seed=derive_seed(repetition, "order"), device=device,
        augment=recipes.augmentation(recipe), loss=recipes.loss_of(recipe), state=state, label=label,
    )  # fmt: skip
