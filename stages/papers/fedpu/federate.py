"""Stage: every arm on every scene of one data set and seed, the clients of a round in one process."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.fedpu.settings import Federation

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from stages.lib.data import Split
    from stages.papers.fedpu.saved import Progress


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Federation = field(default_factory=Federation)


@stage(Config, paper="fedpu", section="{dataset}", files={"repeats": "fedpu/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Runs the federations of all scenes and arms; writes the accuracy after each round, bytes, FedPU's nets, and the figures.

    Training sees the labels that the scene leaves to a client (the supervised bound sees all); the evaluation split is only
    measured on.
    """
    from stages.papers.fedpu import arms

    plan = {scene: arms.chosen(list(about.arms)) for scene, about in cfg.params.scenes.items()}
    for arm in {arm for names in plan.values() for arm in names}:
        arms.rate(cfg.params.lr, arm)  # before torch is loaded: a missing rate is told at once
    from stages.lib import artifacts, data, files, runtime
    from stages.papers.fedpu import experiment

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    folder = files.RUNS / "fedpu" / "federations" / cfg.scale / cfg.dataset / str(cfg.seed)
    train, tested = experiment.splits(cfg.dataset, cfg.eval_split, cfg.params)
    rows, table, saved, scratch = [], [], [], []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        values: dict[str, dict[str, float]] = {}
        for scene, names in plan.items():
            found = {}
            for arm in names:
                scratch.append(files.scratch(folder, repetition, f"{scene}-{arm}"))
                found[arm], net = _federation(cfg, train, tested, scene, arm, repetition, device, scratch[-1])
                if arm == "fedpu":
                    saved.append((files.weights(folder, f"fedpu-{scene}", repetition, cfg.repeats), net))
            table += _curves(scene, found, repetition)
            for arm, own in experiment.figures(scene, found, cfg.params.early).items():
                values.setdefault(arm, {}).update(own)
            told = ", ".join(f"{arm} {one.accuracies[-1]:.3f}" for arm, one in found.items())
            print(f"{scene} {repetition}: {told}", flush=True)
        rows += [row for arm, own in values.items() for row in files.metric_rows(cfg.dataset, arm, repetition, own)]
    for path, (state, about) in saved:
        artifacts.save_tensors(path, state, about)
    artifacts.write_csv(folder / "rounds.csv", table)
    metrics = files.RUNS / "fedpu" / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    names = data.SPLITS if cfg.params.pool else ("train", cfg.eval_split)
    read = [data.PREPARED / cfg.dataset / name for name in (*(f"{one}.npz" for one in names), "manifest.json")]
    files.seal(folder, [*(path for path, _ in saved), folder / "rounds.csv", metrics], read, cfg)
    for path in scratch:
        path.unlink(missing_ok=True)


def _federation(
    cfg: Config, train: "Split", tested: "Split", scene: str, arm: str, repetition: int, device: "torch.device", state: "Path"
) -> tuple["Progress", tuple[dict, dict]]:
    """(rounds of one arm, its global state with the net's record)."""
    from stages.lib import resume
    from stages.lib.training import evaluate
    from stages.papers.fedpu import experiment, rounds, server
    from stages.papers.fedpu.saved import Keeper

    job = experiment.make_job(train, cfg.params, scene, arm, repetition, device)
    settings = (asdict(cfg.params), scene, arm, repetition, cfg.eval_split, str(device))
    keeper = Keeper(state, resume.fingerprint(server.initial(job)[0], train, settings))
    net, progress = rounds.run(job, lambda own: evaluate(own, tested, device), keeper)
    return progress, ({name: value.cpu() for name, value in net.state_dict().items()}, job.about)


def _curves(scene: str, found: dict[str, "Progress"], repetition: int) -> list[dict]:
    """One row an arm and round: accuracy, and bytes exchanged so far."""
    return [
        {"scene": scene, "arm": arm, "seed": repetition, "round": turn, "accuracy": value,
         "bytes": sum(progress.exchanged[:turn])}
        for arm, progress in found.items()
        for turn, value in enumerate(progress.accuracies, 1)
    ]  # fmt: skip


if __name__ == "__main__":
    main()
