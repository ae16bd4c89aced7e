"""Training of a gated net: the loss of eq. 11, and what happens after each pass."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import training
from stages.lib.data import Split
from stages.lib.dense import augmentation
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.manidp.arms import Arm
from stages.papers.manidp.gated import GatedNet
from stages.papers.manidp.losses import ease, similarity, sparsity
from stages.papers.manidp.matching import freeze_at
from stages.papers.manidp.thresholds import remaining, threshold

if TYPE_CHECKING:
    from stages.papers.manidp.gate import GateParams


class Trainee(nn.Module):
    """A gated net with the running figures of its training, as buffers: a resumed training goes on with the same."""

    def __init__(self, net: GatedNet, bound: float) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("bound", torch.tensor(bound))  # complexity bound t of this pass
        self.register_buffer("losses", torch.zeros((), dtype=torch.float64))  # sum of the pass's cross-entropies
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the gated net."""
        return self.net(x)


@dataclass(frozen=True)
class Objective:
    """mean CE + lam sum_l mean_i w_i mean_c p + gamma L_sim (eq. 11) + half the L2 norm of the dense net's weights.

    The norm stands here because gates must have no weight decay: it would shrink b2 and close every channel.
    """

    arm: Arm
    lam: float
    gamma: float
    exponent: float
    detach_weight: bool
    form: str
    weight_decay: float

    def __call__(self, model: Trainee, x: Tensor, y: Tensor) -> Tensor:
        """The loss of a batch x [N, C, H, W], y [N]."""
        logits, trace = model.net.trace(x)
        losses = F.cross_entropy(logits, y, reduction="none")
        if model.training:
            model.losses += losses.detach().sum(dtype=torch.float64)
            model.seen += len(y)
        total = losses.mean()
        if self.lam:
            weights = ease(losses, model.bound, self.exponent)
            if not self.arm.complexity:
                weights = weights.mean().detach().expand(len(weights))
            total = total + self.lam * sparsity(trace.saliencies, weights.detach() if self.detach_weight else weights)
        if self.arm.similarity and self.gamma:
            total = total + self.gamma * similarity(trace.saliencies, trace.features, self.form)
        if self.weight_decay:
            total = total + self.weight_decay / 2 * torch.cat([p.flatten() for p in model.net.net.parameters()]).square().sum()
        return total


@dataclass(frozen=True)
class Schedule:
    """What is done after a step: nothing, but after a pass thresholds and the bound are renewed."""

    params: "GateParams"
    rate: float
    static: bool
    steps: int  # a pass

    def __call__(self, model: Trainee) -> None:
        """Count a step, and close the pass if it was its last."""
        model.step += 1
        done = int(model.step)
        if done % self.steps == 0:
            self.close(model, done // self.steps - 1)

    def close(self, model: Trainee, epoch: int) -> None:
        """After pass `epoch` (from 0): thresholds from the pass's mean saliencies, t from its mean cross-entropy."""
        params = self.params
        if self.static and epoch + 1 == freezing_epoch(params.epochs, params.static_share):
            freeze_at(model.net, params.budget)
        elif epoch >= params.warmup and (epoch + 1) % params.every == 0 and not bool(model.net.gates[0].frozen):
            kept = remaining(epoch, max(1, params.epochs - params.hold), self.rate)
            for gate in model.net.gates:
                gate.threshold.copy_(threshold(gate.average(), kept))
        model.bound.copy_(params.easy * model.losses / model.seen)
        model.losses.zero_()
        model.seen.zero_()
        for gate in model.net.gates:
            gate.forget()


def freezing_epoch(epochs: int, share: float) -> int:
    """After how many passes static pruning freezes its mask: at least one, and one before the end."""
    return min(max(1, round(share * epochs)), max(1, epochs - 1))


def train_gated(
    net: GatedNet, split: Split, params: "GateParams", arm: Arm, rate: float, repetition: int, device: torch.device,
    state: Path | None, label: str,
) -> None:  # fmt: skip
    """Train in place with SGD, Nesterov's momentum .9, the rate falling by cosine (the official loop).

    The bound of the first pass is the mean cross-entropy of the freshly gated net in eval mode. StageError for settings
    that cannot work and for a loss that is not finite.
    """
    if arm.similarity and len(split) % params.batch == 1:
        raise StageError(f"params.batch={params.batch}: the last batch of {len(split)} images has one image, which has no "
                         "similarities; choose another batch or limit")  # fmt: skip
    logits = training.predict(net, split.x, device)
    first = float(F.cross_entropy(logits, split.y.cpu()))
    if not first < float("inf"):
        raise StageError(f"{label}: the dense net's loss is {first} once gated; expected a finite number, train it again")
    model = Trainee(net, params.easy * first)
    objective = Objective(
        arm, params.lam, params.gamma, params.exponent, params.detach_weight, params.form, params.weight_decay
    )
    training.train(
        model, split, epochs=params.epochs, lr=params.lr, batch=params.batch, weight_decay=0.0,
        seed=derive_seed(repetition, "gate"), device=device, augment=augmentation(params.pad, params.flip), loss=objective,
        mask_hook=Schedule(params, rate, arm.static, -(-len(split) // params.batch)), state=state, label=label,
    )  # fmt: skip
