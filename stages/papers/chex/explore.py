"""Stage: one arm's single training run, from random weights to the thin net, and its measurement."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.chex.settings import Params


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    arm: str = field(help="how channels are chosen, see arms.py")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, paper="chex", section="{dataset}", files={"repeats": "chex/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains one arm with its exploration, cuts the net, writes weights, record, accuracy, MACs, coverage and widths."""
    from stages.papers.chex.arms import find

    find(cfg.arm)  # before torch is loaded: a wrong name answers at once
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.lib.dense import limited
    from stages.papers.chex import measure, runs

    folder = files.RUNS / "chex" / "explore" / cfg.scale / cfg.dataset / cfg.arm / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split = limited(data.pixels(cfg.dataset, "train"), cfg.params.sgd.limit, 0)
    held_out = data.load(cfg.dataset, cfg.eval_split)
    made = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        net, record = runs.run(cfg.arm, cfg.params, split, repetition, device, files.scratch(folder, repetition, "run"))
        found = measure.values(net, record, held_out, device)
        print(f"{cfg.arm} {repetition}: {record['macs']} of {record['dense_macs']} MACs", flush=True)
        made.append((files.weights(folder, "model", repetition, cfg.repeats), net, record, found))
    rows, layers = [], []
    for path, net, record, found in made:
        weights.save_model(path, net)
        rows += files.metric_rows(cfg.dataset, cfg.arm, record["seed"], {**found, "bytes": path.stat().st_size})
        layers += files.layer_rows(cfg.dataset, cfg.arm, record["seed"], record["layers"])
    artifacts.write_json(folder / "exploration.json", {"arm": cfg.arm, "repetitions": [record for _, _, record, _ in made]})
    metrics = files.RUNS / "chex" / "metrics" / cfg.scale / cfg.dataset / cfg.arm / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": layers})
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, [*(path for path, *_ in made), folder / "exploration.json", metrics], read, cfg)


if __name__ == "__main__":
    main()
