"""Adam with an L2 penalty; torch.optim's own would import the compiler at its first step. A test asks for its values."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Adam:
    """Kingma and Ba 2015, for a few small tensors."""

    def __init__(self, values: Sequence[Tensor], lr: float, betas: tuple[float, float], decay: float) -> None:
        self.values, self.lr, self.betas, self.decay, self.steps = list(values), lr, betas, decay, 0
        self.first = [torch.zeros_like(value) for value in self.values]
        self.second = [torch.zeros_like(value) for value in self.values]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One update in place."""
        self.steps += 1
        slow, square = (1.0 - beta**self.steps for beta in self.betas)
        for value, gradient, first, second in zip(self.values, gradients, self.first, self.second, strict=True):
            slope = gradient + self.decay * value
            first.lerp_(slope, 1.0 - self.betas[0])
            second.mul_(self.betas[1]).addcmul_(slope, slope, value=1.0 - self.betas[1])
            value.sub_(self.lr / slow * first / ((second / square).sqrt() + 1e-8))
