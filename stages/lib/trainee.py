"""A net with its AdamW, trained by `stages.lib.training`.

The loop gives the order of the data, stopping and resuming, and calls `after_step`; moments and clock are the trainee's
buffers, so that they are saved and restored with the weights.
"""

import hashlib
from collections.abc import Callable, Sequence
from operator import methodcaller
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.lib import training
from stages.lib.adamw import AdamW
from stages.lib.data import Split

Groups = Sequence[tuple[Sequence[nn.Parameter], float]]


class Trainee(nn.Module):
    """A net and the update after each step: AdamW over groups (parameters, weight decay) at the rate of the step.

    `about` is what else decides the run, so that a saved state is never taken up under other settings. `clip` limits
    the norm of all gradients together; 0 for no limit.
    """

    clock: Tensor

    def __init__(
        self, net: nn.Module, groups: Groups, rate: Callable[[int], float], *about: object,
        betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, clip: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.net, self.rate, self.clip = net, rate, clip
        self.optimiser = AdamW(groups, betas, eps)
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))
        told = hashlib.sha256(repr((betas, eps, clip, *about)).encode()).digest()
        self.register_buffer("told", torch.tensor(list(told), dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """What the net answers."""
        return self.net(x)

    def after_step(self) -> None:
        """One update with the gradients of the batch that has just gone through."""
        if self.clip:
            nn.utils.clip_grad_norm_(self.optimiser.held, self.clip)
        self.optimiser.step(self.rate(int(self.clock)))
        self.clock += 1


def fit(
    trainee: Trainee, split: Split, *, epochs: int, batch: int, seed: int, device: torch.device | str = "cpu",
    augment: training.Augment | None = None, loss: training.Loss | None = None, state: Path | None = None,
    label: str = "train",
) -> list[float]:  # fmt: skip
    """Train in place and return the mean loss of each epoch; resumable as `training.train` is.

    `loss` is called with the trainee, a batch of the split's x and the same of its y.
    """
    return training.train(
        trainee, split, epochs=epochs, lr=trainee.rate(0), batch=batch, seed=seed, schedule="constant", device=device,
        augment=augment, loss=loss, mask_hook=methodcaller("after_step"), parameters=(), state=state, label=label,
    )  # fmt: skip
