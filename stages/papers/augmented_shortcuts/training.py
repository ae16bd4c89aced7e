"""Nets of the arms: fresh ones that share their initial weights, and their training by DeiT's recipe."""

import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from stages.lib.adamw import decay_groups
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.trainee import Trainee, fit
from stages.lib.vit import recipe as recipes
from stages.papers.augmented_shortcuts.arms import ARMS, Arm
from stages.papers.augmented_shortcuts.circulant import BlockCirculant
from stages.papers.augmented_shortcuts.net import AugVit, augvit

if TYPE_CHECKING:
    from stages.papers.augmented_shortcuts.settings import Net, Params


class Averaged(Trainee):
    """A trainee that keeps a moving average of all parameters of its net: average <- decay average + (1 - decay) net."""

    def __init__(self, net: nn.Module, *about: object, decay: float, **options: object) -> None:
        super().__init__(net, *about, decay, **options)
        self.decay, self.average = decay, copy.deepcopy(net).requires_grad_(False)

    @torch.no_grad()
    def after_step(self) -> None:
        """The update, and then the average's."""
        super().after_step()
        pairs = zip(self.average.parameters(), self.net.parameters(), strict=True)
        for kept, new in pairs:
            kept.lerp_(new, 1.0 - self.decay)


def record_of(arm: Arm, settings: "Net", split: Split) -> dict:
    """The record of an arm's net for a split's images. Raises StageError where images and settings do not belong together."""
    shape = list(split.x.shape[1:])
    if shape[0] != settings.channels:
        raise StageError(
            f"images of {shape[0]} channels, expected {settings.channels} (grey has 1, colour 3); "
            "correct params.net.channels or choose another data set"
        )
    sizes = {name: getattr(settings, name) for name in ("patch", "embed", "depth", "heads", "hidden", "blocks")}
    if arm.widened:
        sizes["hidden"] = widened(settings)
    return augvit(shape, len(split.classes), arm, **sizes)


def widened(settings: "Net") -> int:
    """Least MLP width with which the plain net has at least as many parameters as the arm `augmented`."""
    width, paths = settings.embed, ARMS["augmented"].paths
    more = 2 * paths * (settings.blocks * width + width)  # of a block
    return settings.hidden - (-more // (2 * width + 1))  # a neuron has 2 d weights and a bias


def fresh(arm: Arm, params: "Params", split: Split, repetition: int) -> AugVit:
    """An arm's net with the repetition's random weights."""
    seed_everything(derive_seed(repetition, "init"))
    settings = params.net
    return AugVit(record_of(arm, settings, split), settings.drop_path, settings.deviation or None)


def groups_of(net: nn.Module, decay: float) -> list[tuple[list[nn.Parameter], float]]:
    """Weight decay for matrices, circulant ones as well; none for biases, norms, positions and the class token."""
    (matrices, _), (others, _) = decay_groups(net, decay)
    circulant = {id(module.weight) for module in net.modules() if isinstance(module, BlockCirculant)}
    matrices = matrices + [p for p in others if id(p) in circulant]
    return [(matrices, decay), ([p for p in others if id(p) not in circulant], 0.0)]


def train(
    net: AugVit, params: "Params", split: Split, repetition: int, device: torch.device | str = "cpu",
    state: Path | None = None, label: str = "train",
) -> AugVit:  # fmt: skip
    """The net after training on the split; its average where one is asked for.

    Order of the data and all draws follow from the repetition, so that arms are paired; resumable. Raises StageError for a
    loss that is not finite.
    """
    net.to(device)
    recipe, steps = params.recipe, -(-len(split) // params.recipe.batch)
    kind = partial(Averaged, decay=params.average) if params.average else Trainee
    rate = partial(recipes.rate, recipe, steps)
    trainee = kind(net, groups_of(net, recipe.weight_decay), rate, recipe, steps, net.record(), clip=recipe.clip).to(device)
    seed_everything(derive_seed(repetition, "draws"))
    fit(
        trainee, split, epochs=recipe.epochs, batch=recipe.batch, seed=derive_seed(repetition, "order"), device=device,
        augment=recipes.augmentation(recipe), loss=recipes.loss_of(recipe), state=state, label=label,
    )  # fmt: skip
    return trainee.average if isinstance(trainee, Averaged) else net
