"""Training and measurement of flows: every arm and repetition side by side."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib.runtime import derive_seed
from stages.lib.trainee import Trainee
from stages.papers.srs import densities, layer
from stages.papers.srs.flow import Block, Flow
from stages.papers.srs.peers import SideBySide

if TYPE_CHECKING:
    from stages.papers.srs.settings import Generation


def build(params: "Generation", repetitions: Sequence[int]) -> Flow:
    """Flows of all arms with the repetitions' weights, the same in all arms."""
    generators = [torch.Generator().manual_seed(derive_seed(one, "init")) for one in repetitions]

    def drawn(rows: int, columns: int) -> Tensor:
        each = torch.stack([torch.randn(rows, columns, generator=one) for one in generators])
        return each.repeat(len(params.arms), 1, 1)

    def block() -> Block:
        act = SideBySide(params.arms, len(repetitions), params.activation)
        first, second = drawn(2, params.hidden) / math.sqrt(2), drawn(params.hidden, 2) / math.sqrt(params.hidden)
        return Block(first, second, drawn(1, params.hidden), act)

    return Flow([block() for _ in range(params.blocks)], params.contraction, params.gain)


class Flows(Trainee):
    """Flows with their Adam; losses of every epoch are noted."""

    losses: Tensor

    def __init__(self, params: "Generation", density: str, repetitions: Sequence[int]) -> None:
        self.params, self.density, self.repetitions = params, density, list(repetitions)
        net = build(params, repetitions)
        self.steps = -(-params.train // params.batch)
        total = params.epochs * self.steps
        super().__init__(
            net, [(list(net.parameters()), 0.0)], lambda step: params.lr * (0.5 + 0.5 * math.cos(math.pi * step / total)),
            params, density, self.repetitions,
        )  # fmt: skip
        self.register_buffer("losses", torch.zeros(params.epochs, len(params.arms) * len(repetitions)))
        self.register_buffer("x", self._points("train", params.train), persistent=False)

    def _points(self, purpose: str, count: int) -> Tensor:
        drawn = [torch.from_numpy(densities.points(self.density, count, one, purpose)) for one in self.repetitions]
        return torch.stack(drawn)

    def loss(self, positions: Tensor) -> Tensor:
        """Sum over the nets of their mean bits a dimension."""
        x = self.x[:, positions].repeat(len(self.params.arms), 1, 1)
        each = self.net.bits(x).mean(1)
        self.losses[int(self.clock) // self.steps] += each.detach() / self.steps
        return each.sum()

    def after_step(self) -> None:
        """Adam's update; SRS stays feasible."""
        super().after_step()
        layer.project(self.net)

    def curves(self) -> Tensor:
        """Training losses [epochs, arms, repetitions]."""
        return self.losses.cpu().view(len(self.losses), len(self.params.arms), -1)

    @torch.no_grad()
    def measure(self, split: str) -> dict[tuple[str, int], dict[str, float]]:
        """Figures by arm and repetition on points of a split that no training saw."""
        x = self._points(split, self.params.test).repeat(len(self.params.arms), 1, 1).to(self.x.device)
        bits = self.net.bits(x).double().mean(1).tolist()
        z = self.net(x)[0]
        error = (self.net.inverse(z, self.params.iterations) - x).abs().amax((1, 2)).tolist()
        first = self.curves()[0].flatten().tolist()
        keys = [(arm, one) for arm in self.params.arms for one in self.repetitions]
        return {
            key: {"bits": bits[i], "inverse_error": error[i], "first_loss": first[i]} for i, key in enumerate(keys)
        }  # fmt: skip
