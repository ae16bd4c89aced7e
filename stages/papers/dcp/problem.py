"""One layer's pruning problem (eq. 7 and 8): its cached data, its loss at a partial weight, its gradient, its solver."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stages.papers.dcp.losses import Form, joint

Run = Callable[[Any], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Objective:
    """Weights of the two losses: (1, lambda) is DCP, (1, 0) reconstruction only, (0, 1) cross-entropy only."""

    rebuild: float
    classify: float
    form: Form = "release"


@dataclass(frozen=True)
class Solver:
    """Inner problem (8): passes of Nesterov SGD over the selection data, restricted to the chosen groups."""

    lr: float
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch: int = 128
    passes: int = 1


@dataclass
class LayerProblem:
    """A convolution `layer` (weight (n, c, h, z)) judged through `run`, which maps cached features to (O, logits).

    `features`, which a slice of images indexes, come from the pruned net, `targets` (the layer's output O^b) from the
    unpruned one, `labels` are (N,). `run` must use `layer`; every other parameter has to be frozen by the caller, and
    the net in eval mode.
    """

    layer: nn.Conv2d
    run: Run
    features: Any
    targets: Tensor
    labels: Tensor
    objective: Objective
    gradient_batch: int = 500
    start: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.layer.weight.detach().clone()  # W0, the source of warm starts

    def set_weight(self, weight: Tensor) -> None:
        """Writes V into the layer."""
        with torch.no_grad():
            self.layer.weight.copy_(weight)

    def loss(self) -> float:
        """L(V) on the whole selection set, without a gradient."""
        with torch.no_grad():
            return sum(float(self._loss(b)) * self._share(b) for b in self._batches(self.gradient_batch))

    def gradient(self) -> tuple[float, Tensor]:
        """(L(V), dL/dV) on the whole selection set; columns at zero get their gradient too (Alg. 2, line 4)."""
        total, grad = 0.0, torch.zeros_like(self.layer.weight)
        for part in self._batches(self.gradient_batch):
            loss = self._loss(part)
            (piece,) = torch.autograd.grad(loss, [self.layer.weight])
            total += float(loss.detach()) * self._share(part)
            grad += piece * self._share(part)
        return total, grad

    def solve(self, mask: Tensor, solver: Solver) -> None:
        """Problem (8): SGD on V where `mask` (broadcastable to V) is true, V exactly 0 elsewhere.

        Written out, not torch.optim: a fresh optimiser for each of hundreds of short solves, and the mask after each
        step so that neither momentum nor weight decay revives a column that was not chosen.
        """
        mask = mask.to(self.layer.weight.dtype)
        params = [p for p in (self.layer.weight, self.layer.bias) if p is not None]
        masks = [mask, None][: len(params)]
        velocity: list[Tensor | None] = [None] * len(params)
        for part in [b for _ in range(solver.passes) for b in self._batches(solver.batch)]:
            grads = torch.autograd.grad(self._loss(part), params)
            with torch.no_grad():
                for i, (param, grad, keep) in enumerate(zip(params, grads, masks, strict=True)):
                    velocity[i] = _nesterov(param, grad, keep, velocity[i], solver)

    def _loss(self, part: slice) -> Tensor:
        output, logits = self.run(self.features[part])
        aim = self.objective
        return joint(
            output,
            self.targets[part],
            logits,
            self.labels[part],
            rebuild=aim.rebuild,
            classify=aim.classify,
            form=aim.form,
        )

    def _batches(self, size: int) -> Iterator[slice]:
        for first in range(0, len(self.labels), size):
            yield slice(first, min(first + size, len(self.labels)))

    def _share(self, part: slice) -> float:
        """A batch's share of the mean loss."""
        return (part.stop - part.start) / len(self.labels)


def _nesterov(param: Tensor, grad: Tensor, keep: Tensor | None, velocity: Tensor | None, solver: Solver) -> Tensor:
    """One Nesterov step as torch.optim.SGD takes it, masked before and after; returns the new velocity."""
    grad = grad + solver.weight_decay * param
    if keep is not None:
        grad = grad * keep
    velocity = grad if velocity is None else solver.momentum * velocity + grad
    param -= solver.lr * (grad + solver.momentum * velocity)
    if keep is not None:
        param *= keep
    return velocity
