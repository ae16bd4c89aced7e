"""Training of a genotype's net: rates by epoch, clipped gradients, drop-path and the auxiliary head (section 3.7).

`stages.lib.training` gives the loop and calls `after_step`; its own optimiser gets no parameters, since the gradients have
to be clipped before the update. Velocities are buffers, so that they are saved with the net.
"""

import hashlib
import math
from operator import methodcaller
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.lib import training
from stages.lib.darts import DartsNet
from stages.lib.data import Split
from stages.lib.optim import Sgd
from stages.papers.eoinas.images import augment
from stages.papers.eoinas.settings import TrainParams


def rate(params: TrainParams, epoch: int) -> float:
    """Learning rate in epoch 0, 1, ...: a factor an epoch, or by cosine."""
    if params.lr_decay:
        return params.lr * params.lr_decay**epoch
    return params.lr * 0.5 * (1.0 + math.cos(math.pi * epoch / params.epochs))


class Trainee(nn.Module):
    """A net with its optimiser and its clock. The net must be on its device already."""

    clock: Tensor

    def __init__(self, net: DartsNet, params: TrainParams, steps: int) -> None:
        super().__init__()
        self.net, self.params, self.steps = net, params, steps
        self.optimiser = Sgd(net.parameters(), params.lr, params.momentum, params.weight_decay, nesterov=False)
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))
        # What else decides the run, so that a saved state is never taken up under other settings.
        told = hashlib.sha256(repr((params, net.record())).encode()).digest()
        self.register_buffer("told", torch.tensor(list(told), dtype=torch.uint8))
        for index, velocity in enumerate(self.optimiser.velocity):
            self.register_buffer(f"velocity{index}", velocity)

    @property
    def epoch(self) -> int:
        """Passes finished."""
        return int(self.clock) // self.steps

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Smoothed cross-entropy, plus that of the auxiliary head; drop-path grows with the epochs."""
        params = self.params
        self.net.drop = params.drop_path * self.epoch / params.epochs
        logits, side = self.net.both(x)
        value = nn.functional.cross_entropy(logits, y, label_smoothing=params.smoothing)
        if side is not None:
            value = value + params.auxiliary * nn.functional.cross_entropy(side, y, label_smoothing=params.smoothing)
        return value

    def after_step(self) -> None:
        """One update with the gradients of the batch that has just gone through."""
        nn.utils.clip_grad_norm_(self.optimiser.parameters, self.params.clip)
        self.optimiser.lr = rate(self.params, self.epoch)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.clock += 1


def fit(
    net: DartsNet, split: Split, params: TrainParams, seed: int, device: torch.device, state: Path | None, label: str
) -> list[float]:
    """Train in place and return the mean loss of each pass; resumable as `training.train` is."""
    params.check()
    model = Trainee(net.to(device), params, -(-len(split) // params.batch))
    return training.train(
        model, split, epochs=params.epochs, lr=params.lr, batch=params.batch, seed=seed, device=device, parameters=(),
        augment=augment(params.pad, params.flip, params.cutout), loss=lambda trainee, x, y: trainee.loss(x, y),
        mask_hook=methodcaller("after_step"), state=state, label=label,
    )  # fmt: skip
