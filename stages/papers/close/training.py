"""Training a supernet: one architecture a step, the curriculum at the start of an epoch, scores at checkpoints."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib import parallel, resume
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.optim import Sgd
from stages.lib.runtime import derive_seed
from stages.lib.shares import shared_out
from stages.papers.close import curriculum, inheritance, scoring
from stages.papers.close.arms import Trainee
from stages.papers.close.settings import Supernets
from stages.papers.close.space import Architecture


@dataclass
class Scored:
    """What is scored: architectures on images that train nothing."""

    architectures: Sequence[Architecture]
    split: Split


class Learner(nn.Module):
    """Net, gate and the scores so far, so that one state holds all of them."""

    def __init__(self, trainee: Trainee, checkpoints: int, scored: int) -> None:
        super().__init__()
        self.net, self.gate = trainee.net, trainee.gate
        self.register_buffer("scores", torch.zeros(checkpoints, scored, dtype=torch.float64))


@dataclass
class Run:
    """All that changes while training, in the form that stages.lib.resume keeps; saved between epochs."""

    model: Learner
    optimiser: Sgd
    generator: torch.Generator = field(default_factory=torch.Generator)
    order: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.long))
    step: int = 0  # finished epochs
    total: float = 0.0
    history: list[float] = field(default_factory=list)


def train(
    trainee: Trainee, split: Split, pool: Sequence[Architecture], scored: Scored, params: Supernets, repetition: int,
    device: torch.device, state: Path | None = None, label: str = "supernet",
) -> Learner:  # fmt: skip
    """Train in place; the result's `scores` [checkpoints, architectures] are accuracies on scored.split.

    Order of the images, architectures and gate noise follow from the repetition and the epoch alone. Raises StageError for a
    schedule that does not fit and a loss that is not finite.
    """
    params.check()
    curriculum.check(trainee.schedule, params.epochs, trainee.net.blocks)
    model = Learner(trainee, len(params.checkpoints), len(scored.architectures))
    begun = (repr(params), repetition, trainee.schedule, len(pool), str(device), label)
    started = resume.fingerprint(model, split, begun) if state else ""
    model.to(device).train()
    run = Run(model, Sgd(model.parameters(), params.lr, params.momentum, params.weight_decay, nesterov=False))
    keeper = resume.Keeper(state, started, 0.02) if state else None
    if keeper and keeper.restore(run):
        print(f"{label}: resumed at epoch {run.step + 1}/{params.epochs}", flush=True)
    on_device = split.to(device)
    while run.step < params.epochs:
        _epoch(run, trainee, on_device, pool, params, repetition, label)
        if run.step in params.checkpoints:
            level = curriculum.level(trainee.schedule, run.step)
            found = scoring.scores(model.net, model.gate, scored.architectures, scored.split, level, device)
            model.scores[params.checkpoints.index(run.step)] = torch.tensor(found, dtype=torch.float64)
        if keeper and run.step < params.epochs:
            keeper.save(run)
    if keeper:
        keeper.remove()
    return model


def rate(params: Supernets, history: Sequence[float], epoch: int) -> float:
    """The learning rate of an epoch (from 1), from the mean losses of the epochs before it; SRT forgets them."""
    start = params.restart - 1 if 0 < params.restart <= epoch else 0
    plateau = curriculum.Plateau(params.lr, params.patience, params.factor)
    for loss in history[start : epoch - 1]:
        plateau.step(loss)
    return plateau.lr


def _epoch(
    run: Run, trainee: Trainee, split: Split, pool: Sequence[Architecture], params: Supernets, repetition: int, label: str
) -> None:
    """One epoch: level and inheritance, restart, then a step for each batch."""
    epoch = run.step + 1
    level = _on_start(run, trainee, params, repetition, epoch)
    generator = torch.Generator().manual_seed(derive_seed(repetition, "order", epoch))
    noise = torch.Generator().manual_seed(derive_seed(repetition, "noise", epoch))
    drawn = random.Random(derive_seed(repetition, "architectures", epoch))
    torch.manual_seed(derive_seed(repetition, "dropout", epoch))
    order = torch.randperm(len(split), generator=generator).to(split.x.device)
    batches = [part for part in order.split(params.batch) if len(part) > 1]  # BN needs two images
    total = 0.0
    with shared_out(run.model.net):
        for index in batches:
            total += step(run, drawn.choice(pool), split.x[index], split.y[index], level, noise, params.clip)
    run.step, mean = epoch, total / len(batches)
    if not mean < float("inf"):
        raise StageError(f"{label}: the loss is not finite in epoch {epoch}; lower supernet.lr, or look for NaN in the data")
    run.history.append(mean)
    print(f"{label}: epoch {epoch}/{params.epochs}  level {level}  loss {mean:.4f}  lr {run.optimiser.lr:.4g}", flush=True)


def _on_start(run: Run, trainee: Trainee, params: Supernets, repetition: int, epoch: int) -> int:
    """The epoch's level, after what its start brings: WIT for every block that becomes active, SRT, the rate."""
    before, level = (curriculum.level(trainee.schedule, number) for number in (epoch - 1, epoch))
    generator = torch.Generator().manual_seed(derive_seed(repetition, "wit", epoch))
    for block in range(max(before, 1), level if before else 1):  # blocks that are there from the start inherit nothing
        grow(run.model.net, run.model.gate, block, params, generator)
    if epoch == params.restart:
        for velocity in run.optimiser.velocity:
            velocity.zero_()
    run.optimiser.lr = rate(params, run.history, epoch)
    return level


def grow(net: nn.Module, gate: nn.Module, block: int, params: Supernets, generator: torch.Generator) -> None:
    """WIT for a block that becomes active: its weights and what the gate says of it. A gate may fix the parent."""
    fixed = getattr(gate, "parent_of", None)
    parent = fixed(block) if fixed else inheritance.parent_of(block, params.wit_from, generator)
    inheritance.inherit_blocks(net.stacks(), block, parent)
    inheritance.inherit_gate(gate, block, parent, params.gate_at_level)


def step(run: Run, architecture: Architecture, x: Tensor, y: Tensor, level: int, noise: torch.Generator, clip: float) -> float:
    """One update of net and gate on one batch through one architecture; its loss."""
    gates = run.model.gate.draw(architecture, level, noise)
    run.optimiser.zero_grad()
    loss = functional.cross_entropy(run.model.net(x, architecture, gates), y)
    loss.backward()
    parallel.average(run.model.parameters())
    nn.utils.clip_grad_norm_(run.model.parameters(), clip)
    run.optimiser.step()
    return float(loss.detach())
