"""The federated loop in one process: all clients of a round one after another, each as `local.update` does it anywhere."""

from collections.abc import Callable

from torch import nn

from stages.papers.fedpu import local, server
from stages.papers.fedpu.local import Job, Member
from stages.papers.fedpu.saved import Keeper, Progress


def one_round(net: nn.Module, job: Job, turn: int, progress: Progress) -> None:
    """Round `turn` (from 1): clients are updated from the global state, whose average becomes the next."""
    returned = []
    plan = server.drawn(job, turn)
    for number, count in plan.items():
        member = progress.members.get(number, Member())
        state, progress.members[number] = local.update(net, job, number, turn, count, progress.state, member)
        returned.append(state)
    progress.state = server.average(returned)
    progress.exchanged.append(server.exchanged(progress.state, len(plan)))


def run(job: Job, evaluate: Callable[[nn.Module], float], keeper: Keeper | None = None) -> tuple[nn.Module, Progress]:
    """All rounds; returns the global net and what was measured after each. Resumes from the keeper's file."""
    net, start = server.initial(job)
    progress = (keeper.restore(job.clients[0].x.device) if keeper else None) or Progress(start)
    for turn in range(len(progress.accuracies) + 1, job.params.rounds + 1):
        one_round(net, job, turn, progress)
        net.load_state_dict(progress.state)
        progress.accuracies.append(evaluate(net))
        if keeper:
            keeper.save(progress)
    if keeper:
        keeper.save(progress, now=True)
    net.load_state_dict(progress.state)
    return net.eval(), progress
