"""The supervised variant: maps that maximise D(z, u) - price D(z, s), one for each price, trained at once."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stages.lib import dependence, hsic
from stages.lib.adamw import AdamW
from stages.papers.privacy_adversarial_features.arms import HSIC, KERNEL, Supervised
from stages.papers.privacy_adversarial_features.maps import Maps
from stages.papers.privacy_adversarial_features.settings import Information
from stages.papers.privacy_adversarial_features.tables import Task


def falling(lr: float, step: int, steps: int) -> float:
    """The learning rate of a step, by cosine from `lr` to 0."""
    return lr * (1 + math.cos(math.pi * step / steps)) / 2


def batch_of(task: Task, size: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """x, u and s of `size` training samples without repetition, or of all."""
    index = torch.randperm(len(task.u), generator=random)[:size].to(task.u.device)
    return task.train[index], task.u[index], task.s[index]


def criteria(
    z: Tensor, targets: Sequence[Tensor], kinds: Sequence[str], settings: Information, random: torch.Generator
) -> list[Tensor]:
    """What z [P, n, d], standardised, tells of each target (n, C) by the criterion of the same place: [P] each.

    linear: DI; kernel: DI of random Fourier features, so that the scale of z means nothing; hsic: HSIC of the first samples.
    """
    found: dict[str, list[Tensor]] = {}
    for kind in dict.fromkeys(kinds):
        if kind == HSIC:
            kernel = hsic.gaussian_kernel(z[:, : settings.samples], [settings.width])
            found[kind] = [settings.samples * hsic.hsic_linear(kernel, y[: settings.samples]) for y in targets]
        elif kind == KERNEL:
            frequencies, phases = dependence.fourier_draw(z.shape[-1], settings.fourier, settings.width, random)
            features = dependence.fourier_features(z, frequencies.to(z), phases.to(z))
            found[kind] = dependence.information(features, targets, settings.kernel_ridge)
        else:
            found[kind] = dependence.information(z, targets, settings.ridge)
    return [found[kind][place] for place, kind in enumerate(kinds)]


def train(maps: Maps, task: Task, arm: Supervised, prices: Sequence[float], settings: Information, seed: int) -> Maps:
    """Train one map a price in place, by Adam on batches; the same order of samples and features for all arms of a seed."""
    order, draws = (torch.Generator().manual_seed(seed + place) for place in range(2))
    weights = torch.tensor(list(prices), device=task.train.device)
    optimiser = AdamW([(list(maps.parameters()), 0.0)]).to(task.train.device)
    for step in range(settings.steps):
        x, u, s = batch_of(task, settings.batch, order)
        targets = [dependence.balanced_labels(y, classes, x.dtype) for y, classes in ((u, task.utilities), (s, task.secrets))]
        kept, leaked = criteria(hsic.standardised(maps(x)), targets, (arm.utility, arm.secret), settings, draws)
        (weights * leaked - kept).sum().backward()
        optimiser.step(falling(settings.lr, step, settings.steps))
    return maps
