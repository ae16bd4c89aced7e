"""Stage: fine-tuning of an arm's net with the final loss alone, and its measurement before and after."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage


@dataclass
class Scratch:
    epochs: int = field(help="passes of the arm that starts from new weights: all that the other arms had together")
    lr: float = field(help="its learning rate at the start; it falls by cosine")


@dataclass
class FinetuneParams:
    epochs: int = field(help="passes over the training split")
    lr: float = field(help="learning rate at the start; it falls by cosine")
    milestones: list[float] = field(
        default_factory=list, help="shares of the run at which the rate falls to a tenth; empty: cosine instead"
    )
    batch: int = field(help="images a step")
    weight_decay: float = field(help="L2 penalty")
    pad: int = field(help="augmentation: pixels of padding before a random crop, 0 for none")
    flip: bool = field(help="augmentation: mirror half of the images")
    limit: int = field(help="training images used, stratified; 0 for all")
    scratch: Scratch = field(default_factory=Scratch)


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    arm: str = field(help="which pruned net, see arms.py")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: FinetuneParams = field(default_factory=FinetuneParams)


@stage(Config, paper="dcp", section="{dataset}.finetune", files={"repeats": "dcp/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Fine-tunes the pruned net and writes its accuracy before and after, MACs, parameters, bytes and widths."""
    from stages.papers.dcp.arms import find

    find(cfg.arm)
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.lib.dense import limited
    from stages.papers.dcp.measure import finetuned

    pruned = files.RUNS / "dcp" / "prune" / cfg.scale / cfg.dataset / cfg.arm / str(cfg.seed)
    folder = files.RUNS / "dcp" / "finetune" / cfg.scale / cfg.dataset / cfg.arm / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(pruned / "manifest.json")
    split, held_out = limited(data.pixels(cfg.dataset, "train"), cfg.params.limit, 0), data.load(cfg.dataset, cfg.eval_split)
    selection = artifacts.read_json(pruned / "selection.json")
    models, rows, layers = [], [], []
    for repetition, record in zip(files.repetitions(cfg.seed, cfg.repeats), selection["repetitions"], strict=True):
        net = weights.load_model(files.weights(pruned, "model", repetition, cfg.repeats))
        state = files.scratch(folder, repetition, "finetune")
        values = finetuned(net, cfg.arm, cfg.params, split, held_out, repetition, device, state)
        path = files.weights(folder, "model", repetition, cfg.repeats)
        models.append((path, net, values, repetition))
        layers += files.layer_rows(cfg.dataset, cfg.arm, repetition, record["layers"])
    for path, net, values, repetition in models:
        weights.save_model(path, net)
        rows += files.metric_rows(cfg.dataset, cfg.arm, repetition, {**values, "bytes": path.stat().st_size})
    metrics = files.RUNS / "dcp" / "metrics" / cfg.scale / cfg.dataset / cfg.arm / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": layers})
    read = [pruned / "manifest.json"]
    read += [data.PREPARED / cfg.dataset / f"{name}.npz" for name in ("train", cfg.eval_split)]
    files.seal(folder, [*(path for path, *_ in models), metrics], read, cfg)


if __name__ == "__main__":
    main()
