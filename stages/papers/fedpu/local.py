"""One client's local update of a round: a function of the round's global state and of what the client has kept, no more."""

import dataclasses

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.optim import Sgd
from stages.lib.runtime import derive_seed
from stages.papers.fedpu import objectives
from stages.papers.fedpu.arms import Arm
from stages.papers.fedpu.clients import Client
from stages.papers.fedpu.risk import Batch
from stages.papers.fedpu.settings import Federation, Prox

State = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Job:
    """All that stays the same in a federation."""

    params: Federation
    arm: Arm
    lr: float
    clients: list[Client]
    about: dict  # the net's record
    seed: int
    label: str = "federation"


@dataclasses.dataclass(frozen=True)
class Member:
    """What a client keeps between the rounds in which it takes part: momentum, and how many they were."""

    velocity: list[Tensor] = dataclasses.field(default_factory=list)
    taken: int = 0


def update(net: nn.Module, job: Job, number: int, turn: int, epochs: int, start: State, member: Member) -> tuple[State, Member]:
    """Train client `number` from the global state of round `turn`; return its state and what it keeps.

    The net is scratch: everything in it is overwritten. Each draw has a seed of its own, so that the update does not depend on
    where and after what it runs. Raises StageError if the loss is not finite.
    """
    client, params = job.clients[number], job.params
    net.load_state_dict(start)
    net.train()
    # The momentum is the client's; a rate falls with the rounds in which the client itself took part.
    optimiser = Sgd(net.parameters(), job.lr * params.decay**member.taken, params.momentum, nesterov=False)
    if member.velocity:
        optimiser.velocity = [item.clone() for item in member.velocity]
    prox = params.prox if job.arm.prox and params.prox.mu else None
    anchor = [start[name] for name, _ in net.named_parameters()]
    objective, options = objectives.find(job.arm.objective), params.risk
    if job.arm.clamped:
        options = dataclasses.replace(options, nonnegative=True)
    generator = torch.Generator().manual_seed(derive_seed(job.seed, "order", number, turn))
    if job.about["dropout"]:
        torch.manual_seed(derive_seed(job.seed, "local", number, turn))
    total = torch.zeros((), device=client.x.device)
    for _ in range(epochs):
        order = torch.randperm(len(client), generator=generator).to(client.x.device)
        for index in order.split(params.batch):
            loss = objective(Batch.of(net(client.x[index]), client.target[index]), client.known, options)
            if prox is not None:
                loss = loss + proximal(list(net.parameters()), anchor, prox)
            optimiser.zero_grad()
            if loss.requires_grad:  # without a labelled image in the batch, positives alone have none
                loss.backward()
            optimiser.step()
            total += loss.detach()
    if not bool(total.isfinite()):
        raise StageError(f"{job.label}: the loss of client {number} is not finite in round {turn}; lower its params.lr")
    state = {name: value.detach().clone() for name, value in net.state_dict().items()}
    return state, Member(optimiser.velocity, member.taken + 1)


def proximal(weights: list[Tensor], anchor: list[Tensor], prox: Prox) -> Tensor:
    """FedProx's mu/2 |w - w_t|^2 over the parameters, or mu/2 of the norm of each tensor, not squared.

    The official code takes that norm of detached tensors: no gradient, so its term changes nothing, whatever mu is.
    """
    differences = [own - there for own, there in zip(weights, anchor, strict=True)]
    if prox.form == "norm":
        return prox.mu / 2 * torch.stack([torch.linalg.vector_norm(item) for item in differences]).sum()
    return prox.mu / 2 * torch.stack([(item * item).sum() for item in differences]).sum()
