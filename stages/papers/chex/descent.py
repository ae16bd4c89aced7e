"""The paper's SGD around a net: warm-up, rates by pass or step, BN without decay, velocities that can be masked.

`stages.lib.training` gives the loop (order of the data, stopping, resuming) and calls `after_step`. Its own optimiser
gets no parameters; the update is done here, so that velocities live with the net and are saved with it.
"""

import hashlib
import math
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import optim, training
from stages.lib.data import Split
from stages.lib.dense import augmentation, falling

if TYPE_CHECKING:
    from stages.papers.chex.settings import Sgd


def rate(settings: "Sgd", steps: int, step: int) -> float:
    """Learning rate at a step 0, 1, ... of a run with `steps` steps a pass.

    Linear warm-up lr (i + 1) / w, then (1 + cos(pi (i - w) / (n - w))) / 2 lr, with i counted in passes or in steps;
    with milestones, a tenth after each of them instead of the cosine.
    """
    unit = steps if settings.rate_per == "epoch" else 1
    i, warm, whole = step // unit, settings.warmup * steps / unit, settings.epochs * steps // unit
    if i < warm:
        return settings.lr * min(1.0, (i + 1) / warm)
    if settings.milestones:
        return settings.lr * 0.1 ** sum(i >= share * whole for share in settings.milestones)
    return settings.lr * 0.5 * (1.0 + math.cos(math.pi * (i - warm) / (whole - warm)))


def loss_of(settings: "Sgd") -> training.Loss:
    """Cross-entropy with label smoothing, on mixed images where mixup's alpha is above 0 (one lambda a batch)."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if not settings.mixup:
            return F.cross_entropy(model(x), y, label_smoothing=settings.smoothing)
        # The process's generators, which the saved state of a run holds.
        share, other = float(numpy.random.beta(settings.mixup, settings.mixup)), torch.randperm(len(x)).to(x.device)
        logits = model(share * x + (1.0 - share) * x[other])
        first, second = (F.cross_entropy(logits, labels, label_smoothing=settings.smoothing) for labels in (y, y[other]))
        return share * first + (1.0 - share) * second

    return loss


class Trainee(nn.Module):
    """A net with its optimiser. The net must be on its device already: the velocities are made beside it."""

    clock: Tensor

    def __init__(self, net: nn.Module, settings: "Sgd", steps: int, *about: object) -> None:
        super().__init__()
        self.net, self.settings, self.steps = net, settings, steps
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))
        # What else decides the run, so that a saved state is never taken up under other settings.
        text = repr((settings, steps, *about)).encode()
        self.register_buffer("told", torch.tensor(list(hashlib.sha256(text).digest()), dtype=torch.uint8))
        self.optimisers = [optim.Sgd(group, settings.lr, settings.momentum, decay, settings.nesterov)
                           for group, decay in self._groups()]  # fmt: skip
        self.velocity = {id(p): v for o in self.optimisers for p, v in zip(o.parameters, o.velocity, strict=True)}
        for i, value in enumerate(self.velocity.values()):
            self.register_buffer(f"velocity{i}", value)

    def _groups(self) -> list[tuple[list[nn.Parameter], float]]:
        norms = (nn.modules.batchnorm._BatchNorm,)
        plain = {id(p) for m in self.net.modules() if isinstance(m, norms) for p in m.parameters(recurse=False)}
        decay, own = self.settings.weight_decay, list(self.net.parameters())
        if self.settings.decay_norms:
            return [(own, decay)]
        return [([p for p in own if id(p) not in plain], decay), ([p for p in own if id(p) in plain], 0.0)]

    def forward(self, *inputs: object) -> object:
        """What the net answers."""
        return self.net(*inputs)

    def after_step(self) -> None:
        """One update with the gradients of the batch that has just gone through."""
        for optimiser in self.optimisers:
            optimiser.lr = rate(self.settings, self.steps, int(self.clock))
            optimiser.step()
            optimiser.zero_grad()
        self.clock += 1


def fit(model: Trainee, split: Split, device: torch.device, seed: int, state: Path | None, label: str) -> list[float]:
    """Train in place for the settings' passes and return the mean loss of each; resumable as `training.train` is."""
    settings = model.settings
    return training.train(
        model, split, epochs=settings.epochs, lr=settings.lr, batch=settings.batch, seed=seed, momentum=settings.momentum,
        nesterov=settings.nesterov, weight_decay=settings.weight_decay, schedule=falling(settings.milestones),
        milestones=settings.milestones, device=device, augment=augmentation(settings.pad, settings.flip),
        loss=loss_of(settings), mask_hook=methodcaller("after_step"), parameters=(), state=state, label=label,
    )  # fmt: skip
