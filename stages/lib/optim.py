"""Stochastic gradient descent without torch.optim's start-up: its first step imports torch._dynamo, 1.6 s.

The update is torch.optim.SGD's, operation by operation; a test asks for the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch

from stages.lib.errors import StageError


class Sgd:
    """SGD with momentum, Nesterov's form and L2 weight decay; `lr` may be set at any time.

    g = grad + weight_decay * w;  v = momentum * v + g;  w -= lr * (g + momentum * v if nesterov else v)
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = True,
    ) -> None:
        self.parameters = [item for item in parameters if item.requires_grad]
        self.lr, self.momentum, self.weight_decay, self.nesterov = lr, momentum, weight_decay, nesterov
        self.velocity = [torch.zeros_like(item) for item in self.parameters]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for item in self.parameters:
            item.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        used = [index for index, item in enumerate(self.parameters) if item.grad is not None]
        weights = [self.parameters[index] for index in used]
        gradients = [item.grad for item in weights]
        if not weights:
            return
        if self.weight_decay:
            gradients = torch._foreach_add(gradients, weights, alpha=self.weight_decay)
        if self.momentum:
            velocity = [self.velocity[index] for index in used]
            torch._foreach_mul_(velocity, self.momentum)
            torch._foreach_add_(velocity, gradients)
            gradients = torch._foreach_add(gradients, velocity, alpha=self.momentum) if self.nesterov else velocity
        torch._foreach_add_(weights, gradients, alpha=-self.lr)


def schedule(kind: str, lr: float, steps: int, milestones: Sequence[float] = ()) -> Callable[[int], float]:
    """Learning rate at a step 0..steps-1: constant, step (a tenth after each milestone) or cosine (to 0).

    Milestones are shares of the whole run, e.g. (0.4, 0.6). Raises StageError for another kind.
    """
    if kind == "constant":
        return lambda step: lr
    if kind == "cosine":
        return lambda step: lr * (0.5 * (1.0 + math.cos(math.pi * step / steps)))
    if kind == "step":
        edges = [share * steps for share in milestones]
        return lambda step: lr * 0.1 ** sum(step >= edge for edge in edges)
    raise StageError(f"schedule={kind}: expected constant, cosine or step")
