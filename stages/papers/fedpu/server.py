"""The server: who takes part in a round and for how many epochs, the average of what comes back, and its bytes."""

from collections.abc import Sequence

import numpy
import torch
from torch import nn

from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.fedpu import nets
from stages.papers.fedpu.local import Job, State


def initial(job: Job) -> tuple[nn.Module, State]:
    """(a scratch net, the state of round 0): the same for all arms of a repetition."""
    seed_everything(derive_seed(job.seed, "init"))
    net = nets.build(job.about).to(job.clients[0].x.device)
    return net, {name: value.detach().clone() for name, value in net.state_dict().items()}


def participants(clients: int, share: float, seed: int, turn: int) -> list[int]:
    """max(int(share K), 1) clients without replacement, in ascending order."""
    random = numpy.random.RandomState(derive_seed(seed, "participants", turn) % 2**32)
    return sorted(random.permutation(clients)[: max(int(share * clients + 1e-9), 1)].tolist())


def epochs(job: Job, members: Sequence[int], turn: int) -> dict[int, int]:
    """Local epochs of each participant: E, but with FedProx 1 to E - 1 for a random share of them."""
    full = job.params.epochs
    found = dict.fromkeys(members, full)
    if job.arm.prox and job.params.prox.partial:
        random = numpy.random.RandomState(derive_seed(job.seed, "partial", turn) % 2**32)
        slow = random.permutation(list(members))[: int(job.params.prox.partial * len(members) + 1e-9)]
        found |= {int(number): int(random.randint(1, full)) for number in slow}
    return found


def drawn(job: Job, turn: int) -> dict[int, int]:
    """Epochs by participant of a round."""
    return epochs(job, participants(job.params.clients, job.params.participation, job.seed, turn), turn)


def average(states: Sequence[State]) -> State:
    """The mean of every tensor, batch normalisation's statistics included, with equal weights.

    Sums are in double precision, so that equal states give themselves back. Counters stay whole numbers, rounded down.
    Raises StageError if there is none, or if they are not of one net.
    """
    if not states:
        raise StageError("no client returned a state; expected at least one participant")
    first, found = states[0], {}
    if any({name: value.shape for name, value in own.items()} != {n: v.shape for n, v in first.items()} for own in states):
        raise StageError("the clients returned states of different nets; run their stages again")
    for name, value in first.items():
        if value.is_floating_point():
            total = torch.stack([own[name] for own in states]).sum(0, dtype=torch.float64)
            found[name] = total.div_(len(states)).to(value.dtype)
        else:
            total = torch.stack([own[name] for own in states]).sum(0)
            found[name] = total.div(len(states), rounding_mode="floor").to(value.dtype)
    return found


def exchanged(state: State, members: int) -> int:
    """Bytes of a round: each participant receives the global state and sends its own back."""
    return 2 * members * sum(value.numel() * value.element_size() for value in state.values())
