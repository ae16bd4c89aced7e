"""Stage: one client's local update in one round, from the server's last state and from what the client has kept."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.stage import StageError, field, stage
from stages.papers.fedpu.stageform import Whole

if TYPE_CHECKING:
    import torch

    from stages.papers.fedpu.local import Job, Member, State


@dataclass
class Config(Whole):
    round: int = field(default=1, help="round, from 1")
    client: int = field(default=0, help="the client's number, from 0")


@stage(Config, paper="fedpu", section="{dataset}")
def main(cfg: Config) -> None:
    """Trains one client for a round (or notes that it takes no part) and writes its state and momentum."""
    from stages.papers.fedpu import arms, stageform

    arms.find(cfg.arm)
    stageform.check_turn(cfg, cfg.round)
    if not 0 <= cfg.client < cfg.params.clients:
        raise StageError(f"client={cfg.client}: expected 0 to {cfg.params.clients - 1}")
    from stages.lib import files
    from stages.papers.fedpu import local, saved, server

    job, device = stageform.job(cfg)
    net, start = server.initial(job)
    start, member, read = _before(cfg, job, start, device)
    plan = server.drawn(job, cfg.round)
    state = None
    if cfg.client in plan:
        state, member = local.update(net, job, cfg.client, cfg.round, plan[cfg.client], start, member)
    folder = stageform.client_folder(cfg, cfg.round, cfg.client)
    made = saved.write_client(folder, state, member, job.about)
    files.seal(folder, made, [*stageform.read_files(cfg), *read], cfg)
    print(f"round {cfg.round}, client {cfg.client}: {plan.get(cfg.client, 0)} epochs", flush=True)


def _before(cfg: Config, job: "Job", start: "State", device: "torch.device") -> "tuple[State, Member, list]":
    """(global state, what the client has kept, files read) at the beginning of the round."""
    from stages.papers.fedpu import saved, stageform
    from stages.papers.fedpu.local import Member

    if cfg.round == 1:
        return start, Member(), []
    last, own = stageform.round_folder(cfg, cfg.round - 1), stageform.client_folder(cfg, cfg.round - 1, cfg.client)
    state = saved.read_global(last, job.about, device)
    _, member = saved.read_client(own, job.about, device)
    return state, member, [last / "manifest.json", own / "manifest.json"]


if __name__ == "__main__":
    main()
