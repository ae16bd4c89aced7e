"""One training: the released recipe's warm-up, rates, smoothed labels and moving average of the weights (section 4)."""

import hashlib
import math
from operator import methodcaller
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import optim, training
from stages.lib.data import Split
from stages.lib.dense import augmentation
from stages.papers.greedy_network_enlarging.settings import Recipe


def rate(recipe: Recipe, steps: int, step: int) -> float:
    """Learning rate at a step 0, 1, ... of a run with `steps` steps a pass (the release's get_lr)."""
    warm, whole = recipe.warmup * steps, recipe.epochs * steps
    if step < warm:
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * step / warm
    falling = 0.5 * (1.0 + math.cos(math.pi * (step - warm) / (whole - warm)))
    return recipe.final_lr + (recipe.lr - recipe.final_lr) * falling


class Trainee(nn.Module):
    """A net with its optimiser and the moving average of its state, which are saved with it where a run is resumed.

    `stages.lib.training` gives the loop and calls `after_step`; its own optimiser gets no parameters. The net must be on
    its device already.
    """

    clock: Tensor

    def __init__(self, net: nn.Module, recipe: Recipe, steps: int) -> None:
        super().__init__()
        self.net, self.recipe, self.steps = net, recipe, steps
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))
        # What else decides the run, so that a saved state is never taken up under other settings.
        told = hashlib.sha256(repr((recipe, steps)).encode()).digest()
        self.register_buffer("told", torch.tensor(list(told), dtype=torch.uint8))
        self.optimiser = optim.Sgd(net.parameters(), recipe.lr, recipe.momentum, recipe.weight_decay, recipe.nesterov)
        for i, velocity in enumerate(self.optimiser.velocity):
            self.register_buffer(f"velocity{i}", velocity)
        self.averaged: list[Tensor] = []
        if recipe.ema:
            for i, value in enumerate(self._state()):
                self.register_buffer(f"average{i}", value.detach().clone())
            self.averaged = [self.get_buffer(f"average{i}") for i in range(len(self._state()))]

    def _state(self) -> list[Tensor]:
        """Weights and running statistics."""
        return [value for value in self.net.state_dict().values() if value.is_floating_point()]

    def forward(self, x: Tensor) -> Tensor:
        """What the net answers."""
        return self.net(x)

    @torch.no_grad()
    def after_step(self) -> None:
        """One update with the gradients of the batch that has just gone through, then the average."""
        self.optimiser.lr = rate(self.recipe, self.steps, int(self.clock))
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.clock += 1
        for mean, value in zip(self.averaged, self._state() if self.averaged else (), strict=True):
            mean.lerp_(value, 1.0 - self.recipe.ema)

    @torch.no_grad()
    def settle(self) -> None:
        """Give the net its averaged state, if one was kept."""
        for mean, value in zip(self.averaged, self._state() if self.averaged else (), strict=True):
            value.copy_(mean)


def fit(
    net: nn.Module, split: Split, recipe: Recipe, seed: int, device: torch.device, state: Path | None, label: str
) -> nn.Module:
    """Train the net in place by the recipe and return it; order and augmentation follow from the seed, resumable."""
    steps = -(-len(split) // recipe.batch)
    trainee = Trainee(net.to(device), recipe, steps)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y, label_smoothing=recipe.smoothing)

    training.train(
        trainee, split, epochs=recipe.epochs, lr=recipe.lr, batch=recipe.batch, seed=seed, device=device, loss=loss,
        augment=augmentation(recipe.pad, recipe.flip), mask_hook=methodcaller("after_step"), parameters=(), state=state,
        label=label,
    )  # fmt: skip
    trainee.settle()
    return net
