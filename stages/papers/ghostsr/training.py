"""Training of a super-resolution net, with or without learnable shifts."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib import trainee
from stages.lib.adamw import AdamW
from stages.lib.data import Split
from stages.lib.restoration.patches import PairedPatches
from stages.lib.restoration.sets import Pair
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.ghostsr.settings import Ghost, Recipe
from stages.papers.ghostsr.shift import set_epoch, shifts

HALVED = 0.5  # the official factor at a milestone


@dataclasses.dataclass(frozen=True)
class Data:
    """Pairs to train on, and the hash that tells them from others."""

    pairs: list[Pair]
    digest: str


def rate(recipe: Recipe) -> Callable[[int], float]:
    """Learning rate by step: linear warm-up times a cosine to 0, or halved after each milestone where there are some."""

    def at(step: int) -> float:
        rising = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
        if recipe.milestones:
            return recipe.lr * rising * HALVED ** sum(step >= share * recipe.steps for share in recipe.milestones)
        return recipe.lr * rising * 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps))

    return at


class GhostTrainee(trainee.Trainee):
    """A net whose shifts are told the epoch before each step, and whose logits have a learning rate of their own."""

    def __init__(self, net: nn.Module, recipe: Recipe, ghost: Ghost | None, digest: str) -> None:
        logits = [module.logits for module in shifts(net) if module.logits.requires_grad]
        own = {id(one) for one in logits}
        others = [one for one in net.parameters() if id(one) not in own and one.requires_grad]
        super().__init__(net, [(others, 0.0)], rate(recipe), recipe, ghost, digest, clip=recipe.clip)
        self.ghost, self.steps = ghost, recipe.steps
        self.logits = AdamW([(logits, 0.0)])

    def forward(self, x: Tensor) -> Tensor:
        """The enlarged images."""
        if self.training and self.ghost is not None:
            set_epoch(self.net, 1.0 + int(self.clock) / self.steps * self.ghost.noise_epochs, self.ghost.noise_decay)
        return self.net(x)

    def after_step(self) -> None:
        """One update of all parameters with the gradients of the batch that has just gone through."""
        if self.ghost is not None and self.logits.held:
            self.logits.step(self.ghost.logit_rate * self.rate(int(self.clock)))
        super().after_step()


def difference(net: nn.Module, batch: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
    """Mean absolute difference in grey levels between a net's images and the clean ones."""
    low, high = batch
    device = next(net.parameters()).device
    return functional.l1_loss(net(low.to(device)), high.to(device))


def fit(
    net: nn.Module, data: Data, recipe: Recipe, ghost: Ghost | None, repetition: int, purpose: str, device: torch.device,
    state: Path, label: str,
) -> list[float]:  # fmt: skip
    """Train in place and return the mean loss of each epoch; resumable as `stages.lib.training.train` is.

    `ghost` None is for nets without learnable shifts. Patches follow from repetition and purpose alone, so that arms are
    paired. Raises StageError for photographs smaller than a patch and for a loss that is not finite.
    """
    patches = PairedPatches(data.pairs, recipe.patch)
    # The loop deals out places of an epoch; a step's patches are drawn when its turn comes.
    places = Split(torch.zeros(recipe.epoch, 1), torch.zeros(recipe.epoch, dtype=torch.int64), (), (), (), "patches")
    seed_everything(derive_seed(repetition, "noise"))
    return trainee.fit(
        GhostTrainee(net, recipe, ghost, data.digest).to(device), places, epochs=recipe.steps // recipe.epoch,
        batch=1, seed=derive_seed(repetition, purpose), device=device,
        augment=lambda _, generator: patches.draw(recipe.batch, generator), loss=difference, state=state, label=label,
    )  # fmt: skip
