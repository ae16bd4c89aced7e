"""Stage: the server's average of the states that the clients of one round returned."""

from dataclasses import dataclass

from stages.lib.stage import StageError, field, stage
from stages.papers.fedpu.stageform import Whole


@dataclass
class Config(Whole):
    round: int = field(default=1, help="round, from 1")


@stage(Config, paper="fedpu", section="{dataset}")
def main(cfg: Config) -> None:
    """Averages the clients' states, buffers included, and writes the global state of the round."""
    from stages.papers.fedpu import arms, stageform

    arms.find(cfg.arm)
    stageform.check_turn(cfg, cfg.round)
    from stages.lib import files
    from stages.papers.fedpu import saved, server

    job, device = stageform.job(cfg)
    returned, read = [], []
    plan = server.drawn(job, cfg.round)
    for number in range(cfg.params.clients):
        own = stageform.client_folder(cfg, cfg.round, number)
        state, _ = saved.read_client(own, job.about, device)
        if (state is not None) != (number in plan):
            raise StageError(f"{own}: belongs to another draw of clients; run its stage again")
        returned += [state] if state is not None else []
        read.append(own / "manifest.json")
    folder = stageform.round_folder(cfg, cfg.round)
    state = server.average(returned)
    files.seal(folder, saved.write_global(folder, state, job.about), [*stageform.read_files(cfg), *read], cfg)
    print(f"round {cfg.round}: {len(returned)} clients, {server.exchanged(state, len(returned))} bytes", flush=True)


if __name__ == "__main__":
    main()
