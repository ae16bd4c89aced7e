"""Stage: the last global state of the federation with a stage for each client, beside that of the loop in one process."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.fedpu.stageform import Whole


@dataclass
class Config(Whole):
    round: int = field(default=1, help="the last round of the stages")
    eval_split: str = MISSING


@stage(Config, paper="fedpu", section="{dataset}")
def main(cfg: Config) -> None:
    """Runs the same rounds in one process; stops if a single bit of the global state differs, and writes its accuracy."""
    from stages.papers.fedpu import arms, stageform

    arms.find(cfg.arm)
    if cfg.round != cfg.params.rounds:
        raise StageError(f"round={cfg.round}: the stages end there; expected params.rounds={cfg.params.rounds}")
    import torch

    from stages.lib import artifacts, files
    from stages.lib.training import evaluate
    from stages.papers.fedpu import experiment, rounds, saved

    job, device = stageform.job(cfg)
    state = saved.read_global(stageform.round_folder(cfg, cfg.round), job.about, device)
    _, tested = experiment.splits(cfg.dataset, cfg.eval_split, cfg.params)
    net, progress = rounds.run(job, lambda own: evaluate(own, tested, device))
    differing = [name for name, value in net.state_dict().items() if not torch.equal(value, state[name])]
    if differing:
        raise StageError(f"{stageform.round_folder(cfg, cfg.round)}: {differing[0]} differs from the loop in one process")
    values = {"accuracy": progress.accuracies[-1], "kilobytes": sum(progress.exchanged) / 1000,
              "tensors": len(state), "differing": len(differing)}  # fmt: skip
    path = files.RUNS / "fedpu" / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(path, {"rows": files.metric_rows(cfg.dataset, cfg.arm, cfg.seed, values), "layers": []})
    print(f"{len(state)} tensors agree to the last bit after {cfg.round} rounds", flush=True)


if __name__ == "__main__":
    main()
