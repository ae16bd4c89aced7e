"""Training of a supernet, with uniform sampling or with a sampler that learns beside it.

`stages.lib.training` gives the loop (order of the data, stopping, resuming) and calls `after_step`. Optimisers, drawn
architectures and clock are buffers of the trainee, so that a resumed run goes on with the same.
"""

import dataclasses
import math
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib import trainee as trainees
from stages.lib.adamw import AdamW, decay_groups
from stages.lib.data import Split
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.trainee import Trainee
from stages.lib.vit import recipe
from stages.papers.focusformer import cost, reinforce
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.estimator import Estimator
from stages.papers.focusformer.sampler import Sampler
from stages.papers.focusformer.space import Architecture
from stages.papers.focusformer.supernet import Supernet

if TYPE_CHECKING:
    from stages.papers.focusformer.settings import Params, Recipe

BACKWARD = 3  # a training step costs about three forward passes of its batch


class RecipeTrainee(Trainee):
    """A net trained by the paper's recipe."""

    def __init__(self, net: nn.Module, settings: "Recipe", steps: int, *about: object) -> None:
        rate = partial(recipe.rate, settings, steps)
        super().__init__(net, decay_groups(net, settings.weight_decay), rate, settings, steps, *about, clip=settings.clip)
        self.settings, self.steps = settings, steps


class SupernetTrainee(RecipeTrainee):
    """A supernet of which every step trains one architecture, the same for the whole batch.

    `sampler` None: uniform draws (AutoFormer). Otherwise, after a warm-up, every `every` steps the sampler has one
    REINFORCE update on held-out images and then draws the architectures of the next steps (FocusFormer).
    """

    drawn: Tensor
    costs: Tensor

    def __init__(self, net: Supernet, sampler: Sampler | None, held_out: Split, params: "Params", steps: int) -> None:
        super().__init__(net, params.recipe, steps, params)
        self.params, self.space, self.sampler, self.held_out = params, params.space, sampler, held_out
        total = params.recipe.epochs * steps
        self.warm = total if sampler is None else math.ceil(params.sampler.warmup * total)
        self.register_buffer("drawn", torch.zeros(params.sampler.every, spaces.length(params.space), dtype=torch.int64))
        self.register_buffer("costs", torch.zeros(total, dtype=torch.int64))
        if sampler is not None:
            self.policy = AdamW([(list(sampler.parameters()), 0.0)])
            self.estimator = Estimator(params.space, params.sampler.hidden, params.sampler.scored)
        self.current: Architecture | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the architecture of this step."""
        if self.training or self.current is None:
            self.current = self.next_architecture(int(self.clock))
        return self.net(x, self.current)

    def next_architecture(self, step: int) -> Architecture:
        """The architecture of a step; its MACs are noted."""
        if self.settings.reseed and step % self.steps == 0:
            random.seed(step // self.steps)
        place = (step - self.warm) % self.params.sampler.every
        if step >= self.warm and place == 0:
            self.update_sampler()
            self.drawn.copy_(self._draws())
        if step < self.warm or random.random() < self.params.sampler.explore:
            found = spaces.uniform(self.space, random)
        else:
            found = spaces.decode(self.space, self.drawn[place].tolist())
        self.costs[step] = cost.macs(found, self.net.canvas)
        return found

    def _draws(self) -> Tensor:
        with torch.no_grad():
            return self.sampler(reinforce.prior(self.sampler, self.params.sampler.prior, self.params.sampler.every))[0]

    def update_sampler(self) -> None:
        """One REINFORCE update on a batch of held-out images, with the supernet as it is."""
        index = torch.randperm(len(self.held_out))[: self.params.sampler.images].to(self.held_out.y.device)
        images, labels = self.held_out.x[index], self.held_out.y[index]

        def measured(found: list[Architecture]) -> Tensor:
            return torch.tensor([accuracy(self.net, one, images, labels) for one in found])

        def estimated(found: list[Architecture], codes: Tensor) -> Tensor:
            some = torch.randperm(len(found))[: self.params.sampler.scored]
            self.estimator.learn(codes[some], measured([found[i] for i in some.tolist()]).to(codes.device))
            with torch.no_grad():
                return self.estimator(codes)

        score = estimated if self.params.sampler.scored else lambda found, _: measured(found)
        reinforce.update(self.sampler, self.policy, self.params.sampler, self.net.canvas, score)


@torch.no_grad()
def accuracy(net: Supernet, found: Architecture, images: Tensor, labels: Tensor) -> float:
    """Share of images that an architecture classifies rightly with inherited weights; NaN where logits are not finite."""
    mode = net.training
    net.eval()
    logits = net(images, found)
    net.train(mode)
    return float((logits.argmax(1) == labels).float().mean()) if bool(logits.isfinite().all()) else math.nan


def sampler_updates(params: "Params", steps: int) -> int:
    """Number of updates that a sampler has during a run with `steps` steps a pass."""
    total = params.recipe.epochs * steps
    return -(-(total - math.ceil(params.sampler.warmup * total)) // params.sampler.every)


def update_images(params: "Params") -> int:
    """Held-out images that one update sends through sub-networks."""
    options = params.sampler
    return (options.scored or options.batch * len(params.budgets)) * options.images


def extended(params: "Params", steps: int) -> "Params":
    """The same with as many more passes as the forward passes of the sampler's updates would pay for, rounded up."""
    images = sampler_updates(params, steps) * update_images(params)
    more = math.ceil(images / (BACKWARD * params.recipe.batch * steps))
    return dataclasses.replace(params, recipe=dataclasses.replace(params.recipe, epochs=params.recipe.epochs + more))


def fresh_supernet(params: "Params", split: Split, repetition: int) -> Supernet:
    """The supernet with the repetition's random weights."""
    seed_everything(derive_seed(repetition, "init"))
    return Supernet(params.supernet, cost.canvas(params.supernet, split.x.shape[1:], len(split.classes)))


def train_supernet(
    params: "Params", split: Split, held_out: Split, focused: bool, repetition: int, device: torch.device,
    state: Path | None, label: str,
) -> SupernetTrainee:  # fmt: skip
    """Train a supernet on `split`; `focused` decides between the sampler and uniform draws.

    Initial weights and order of the data follow from the repetition alone, so that arms are paired. Raises StageError
    for budgets out of reach and a loss that is not finite.
    """
    net = fresh_supernet(params, split, repetition).to(device)
    budgets = cost.budgets(params.space, net.canvas, params.budgets)
    seed_everything(derive_seed(repetition, "sampler"))
    sampler = Sampler(params.space, budgets, params.sampler.hidden).to(device) if focused else None
    steps = -(-len(split) // params.recipe.batch)
    trainee = SupernetTrainee(net, sampler, held_out.to(device), params, steps).to(device)
    seed_everything(derive_seed(repetition, "draws"))
    fit(trainee, split, repetition, device, state, label)
    return trainee


def fit(
    trainee: RecipeTrainee, split: Split, repetition: int, device: torch.device, state: Path | None, label: str
) -> list[float]:
    """Train in place for the recipe's passes and return the mean loss of each; resumable as `training.train` is."""
    settings = trainee.settings
    return trainees.fit(
        trainee, split, epochs=settings.epochs, batch=settings.batch, seed=derive_seed(repetition, "order"), device=device,
        augment=recipe.augmentation(settings), loss=recipe.loss_of(settings), state=state, label=label,
    )  # fmt: skip
