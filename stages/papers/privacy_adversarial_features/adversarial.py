"""The adversarial variant: a map, a utility predictor and adversaries that learn in turn, for all prices at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib import dependence, hsic
from stages.lib.adamw import AdamW
from stages.papers.privacy_adversarial_features.arms import CONFUSION, KERNEL, MINIMAX, Played
from stages.papers.privacy_adversarial_features.maps import Maps
from stages.papers.privacy_adversarial_features.settings import Adversarial, Information
from stages.papers.privacy_adversarial_features.supervised import batch_of, criteria, falling
from stages.papers.privacy_adversarial_features.tables import Task


class Heads(nn.Module):
    """Predictors of one hidden layer: `each` of them for each of `count` maps."""

    def __init__(self, count: int, each: int, dims: int, hidden: int, classes: int, generator: torch.Generator) -> None:
        """Weights of variance 1/inputs; the maps' heads begin alike, those of one map differ."""
        super().__init__()
        self.sizes, self.generator = ((dims, hidden), (hidden, classes)), generator
        drawn = [torch.stack([self._draw(size) for _ in range(each)]) for size in self.sizes]
        self.weights = nn.ParameterList([nn.Parameter(draw.repeat(count, 1, 1, 1)) for draw in drawn])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(count, each, 1, size)) for _, size in self.sizes])

    def _draw(self, size: tuple[int, int]) -> Tensor:
        return torch.randn(*size, generator=self.generator) * size[0] ** -0.5

    def forward(self, z: Tensor) -> Tensor:
        """Logits [count, each, n, C] of z [count, n, d]."""
        h = (z[:, None] @ self.weights[0] + self.biases[0]).relu()
        return h @ self.weights[1] + self.biases[1]

    @torch.no_grad()
    def restart(self, place: int) -> None:
        """Draw one head of every map again."""
        for size, weight, bias in zip(self.sizes, self.weights, self.biases, strict=True):
            weight[:, place] = self._draw(size).to(weight.device)
            bias[:, place] = 0.0


def losses(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy [count] of logits [count, each, n, C] over labels [n] and over the heads of a map."""
    count, each, samples, classes = logits.shape
    labels = y.expand(count, each, samples)
    flat = functional.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1), reduction="none")
    return flat.view(count, each, samples).mean((1, 2))


def confusion(logits: Tensor) -> Tensor:
    """Cross-entropy [count] of the uniform distribution with the predictions: log C, its least, where they are uniform."""
    return -functional.log_softmax(logits, -1).mean((1, 2, 3))


class Game:
    """The three players of one arm."""

    def __init__(self, maps: Maps, task: Task, arm: Played, prices: Sequence[float], settings: Adversarial,
                 information: Information, seed: int) -> None:  # fmt: skip
        """`information` is the criterion of the closed-form adversary."""
        self.maps, self.task, self.arm, self.settings, self.information = maps, task, arm, settings, information
        self.order, self.draws, starts = (torch.Generator().manual_seed(seed + place) for place in range(3))
        device, count, dims = task.train.device, len(prices), maps.weights[-1].shape[-1]
        self.prices = torch.tensor(list(prices), device=device)
        self.predictor = Heads(count, 1, dims, settings.hidden, task.utilities, starts).to(device)
        self.adversaries = Heads(count, settings.adversaries, dims, settings.hidden, task.secrets, starts).to(device)
        self.heads = AdamW([([*self.predictor.parameters(), *self.adversaries.parameters()], 0.0)]).to(device)
        self.optimiser = AdamW([(list(maps.parameters()), 0.0)]).to(device)

    def predictors_step(self) -> None:
        """One step of utility predictor and adversaries on a batch; the map stays as it is."""
        x, u, s = batch_of(self.task, self.settings.batch, self.order)
        with torch.no_grad():
            z = hsic.standardised(self.maps(x))
        (losses(self.predictor(z), u) + losses(self.adversaries(z), s)).sum().backward()
        self.heads.step(self.settings.predictor_lr)

    def map_loss(self, x: Tensor, u: Tensor, s: Tensor) -> Tensor:
        """What each map wants small [count]: the utility predictor's loss and, at its price, what it plays for."""
        z = hsic.standardised(self.maps(x))  # no scale to hide behind
        if self.arm.goal == MINIMAX:
            goal = -losses(self.adversaries(z), s)
        elif self.arm.goal == CONFUSION:
            goal = confusion(self.adversaries(z))
        else:
            y = dependence.balanced_labels(s, self.task.secrets, z.dtype)
            goal = criteria(z, [y], [KERNEL], self.information, self.draws)[0]
        return losses(self.predictor(z), u) + self.prices * goal

    def map_step(self, lr: float) -> None:
        """One step of the maps on a batch; the predictors stay as they are."""
        # Information needs many samples beside its Fourier features; the other goals do not.
        size = self.settings.batch if self.arm.goal in (MINIMAX, CONFUSION) else self.information.batch
        loss = self.map_loss(*batch_of(self.task, size, self.order)).sum()
        parameters = list(self.maps.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        self.optimiser.step(lr)


def train(game: Game) -> Maps:
    """Play to the end and return the maps."""
    settings = game.settings
    for step in range(settings.steps):
        if settings.restart and step and step % settings.restart == 0:
            game.adversaries.restart(step // settings.restart % settings.adversaries)
        for _ in range(settings.inner):
            game.predictors_step()
        game.map_step(falling(settings.lr, step, settings.steps))
    return game.maps
