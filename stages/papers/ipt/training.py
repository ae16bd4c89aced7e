"""Pre-training and fine-tuning with Adam, in the loop of `stages.lib.training`: resumable, the same bytes on every run."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib import trainee
from stages.lib.data import Split
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.ipt.contrastive import contrastive
from stages.papers.ipt.pairs import Drawer

if TYPE_CHECKING:
    from stages.papers.ipt.settings import Contrastive, Recipe

REPORTED = 100  # steps between two lines of the log, about


class Trainee(trainee.Trainee):
    """A net with Adam. Only what a step used has gradients, and only that is updated: other tasks' parts stay as they are.

    `limit` bounds the gradient norm of each tensor on its own, as the official trainer does; 0 for no limit.
    """

    def __init__(self, net: nn.Module, recipe: "Recipe", lr: float, *about: object) -> None:
        super().__init__(net, [(list(net.parameters()), 0.0)], rate_of(recipe, lr), recipe, lr, *about)
        self.limit = recipe.clip

    def after_step(self) -> None:
        """One update with the gradients of the batch that has just gone through."""
        if self.limit:
            for parameter in self.optimiser.held:
                if parameter.grad is not None:
                    nn.utils.clip_grad_norm_([parameter], self.limit)
        super().after_step()


def rate_of(recipe: "Recipe", lr: float) -> Callable[[int], float]:
    """Learning rate by step: by cosine to 0, or times gamma at each milestone (a share of the run)."""
    if recipe.schedule == "cosine":
        return lambda step: lr * (1 + math.cos(math.pi * step / recipe.steps)) / 2
    return lambda step: lr * recipe.gamma ** sum(step >= share * recipe.steps for share in recipe.milestones)


def fit(
    net: nn.Module, drawer: Drawer, recipe: "Recipe", lr: float, contrast: "Contrastive | None", repetition: int,
    device: torch.device, state: Path | None, label: str, hashes: Sequence[str] = (),
) -> list[float]:  # fmt: skip
    """Train in place on the batches of a drawer, by L1 and (in pre-training) the contrastive term.

    `hashes` tell the data apart, so that a state is never taken up on others.
    Returns the mean loss of each part of the run. Raises StageError for a loss that is not finite.
    """
    seed_everything(derive_seed(repetition, "training"))
    learner = Trainee(net, recipe, lr, contrast, repetition, tuple(hashes)).to(device)

    def loss(learner: Trainee, places: Tensor, _: Tensor) -> Tensor:
        name, corrupted, clean = drawer.batch(int(learner.clock), recipe.batch)
        return objective(learner.net, name, corrupted.to(device), clean.to(device), contrast)

    parts = next(count for count in range(max(1, recipe.steps // REPORTED), 0, -1) if recipe.steps % count == 0)
    places = torch.zeros(recipe.steps // parts, 1)  # one entry a step: the drawer makes the batch
    clock = Split(places, torch.zeros(len(places), dtype=torch.int64), ("",), (), (), "drawn")
    return trainee.fit(learner, clock, epochs=parts, batch=1, seed=repetition, device=device, loss=loss, state=state,
                       label=label)  # fmt: skip


def objective(net: nn.Module, name: str, corrupted: Tensor, clean: Tensor, contrast: "Contrastive | None") -> Tensor:
    """L1 between restored and clean patches in grey levels, plus lambda times the contrastive term of the body's tokens."""
    if contrast is None or not contrast.weight:
        return nn.functional.l1_loss(net(corrupted, name), clean)
    restored, tokens = net.with_tokens(corrupted, name)
    term = contrastive(tokens, contrast.form, contrast.tau, contrast.max_tokens)
    return nn.functional.l1_loss(restored, clean) + contrast.weight * term
