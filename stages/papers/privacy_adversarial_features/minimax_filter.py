"""The minimax filter (Hamm, 2016): a linear map against logistic heads that are optimised fully at each step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.lib.hsic import standardised
from stages.papers.privacy_adversarial_features import logistic
from stages.papers.privacy_adversarial_features.settings import Filter
from stages.papers.privacy_adversarial_features.tables import Task


class Objective:
    """min L_u - price min L_s of maps (P, D, d); the heads go on from where the last call left them."""

    def __init__(self, task: Task, prices: Sequence[float], settings: Filter) -> None:
        self.task, self.settings = task, settings
        self.x = task.train.double()
        self.prices = torch.tensor(list(prices), dtype=torch.float64, device=self.x.device)
        self.heads: dict[str, Tensor | None] = {"u": None, "s": None}

    def __call__(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Values (P,) and gradients (P, D, d): at the heads' optimum they are those with the heads held (Danskin)."""
        weights = weights.detach().requires_grad_()
        z = standardised(self.x @ weights)
        told = [self._loss(z, "u", self.task.u, self.task.utilities), self._loss(z, "s", self.task.s, self.task.secrets)]
        values = told[0] - self.prices * told[1]
        return values.detach(), torch.autograd.grad(values.sum(), weights)[0]

    def _loss(self, z: Tensor, head: str, y: Tensor, classes: int) -> Tensor:
        with torch.no_grad():
            found = logistic.fit(z, y, classes, self.settings.inner, self.settings.decay, self.heads[head])
        self.heads[head] = found
        return logistic.loss(z, y, found)


def train(task: Task, start: Tensor, prices: Sequence[float], settings: Filter) -> Tensor:
    """Maps (P, D, d), one a price, by gradient steps from `start` (P, D, d), kept only where they lower the objective."""
    objective = Objective(task, prices, settings)
    weights = start.double()
    sizes = torch.full((len(prices), 1, 1), settings.step, dtype=torch.float64, device=weights.device)
    values, gradients = objective(weights)
    for _ in range(settings.steps):
        tried = weights - sizes * gradients
        reached, slopes = objective(tried)
        lower = (reached < values)[:, None, None]
        weights, gradients = torch.where(lower, tried, weights), torch.where(lower, slopes, gradients)
        values = torch.minimum(values, reached)
        sizes = sizes * torch.where(lower, 1.5, 0.5)
    return weights
