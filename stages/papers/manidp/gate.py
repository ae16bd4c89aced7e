"""Stage: one arm's net, gated and trained from the dense net, and its measurement."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.manidp.train import DataParams


@dataclass
class GateParams:
    keep_rate: float = field(help="r*, target share of channels kept, in (0, 1]")
    keep_rates: dict[str, float] = field(default_factory=dict, help="r* of single arms, instead of `keep_rate`")
    budget: float = field(help="share of the dense MACs at which arms are compared; the static arm prunes to it")
    match: int = field(help="training images on which thresholds are matched to the budget; 0 leaves that out")
    squeeze: int = field(help="q of the gates' hidden layers, halved for layers narrower than 80")
    gate_scale: float = field(help="factor on W2's initial weights: 1 in the official code, less opens gates nearer 1")
    lam: float = field(help="lambda', weight of the sparsity term")
    gamma: float = field(help="weight of the similarity term")
    easy: float = field(help="complexity bound as a multiple of the previous pass's mean loss (thre_cls)")
    exponent: float = field(help="exponent of the relative ease")
    detach_weight: bool = field(help="keep the sparsity weight out of the gradient; false in formula and code")
    form: str = field(help="release: squared norm over N^2 in the similarity term; paper: the norm")
    warmup: int = field(help="passes before the first threshold; 1 in the official code")
    hold: int = field(help="passes at the end that keep the target rate; 0 in the official code")
    every: int = field(help="passes between renewals of the thresholds; 1 in the official code")
    static_share: float = field(help="share of the passes after which the static arm freezes its mask")
    epochs: int = field(help="passes over the training split, for every arm")
    lr: float = field(help="learning rate at the start; it falls by cosine")
    batch: int = field(help="images a step")
    weight_decay: float = field(help="L2 penalty of the dense net's weights; gates have none")
    pad: int = field(help="augmentation: pixels of padding before a random crop, 0 for none")
    flip: bool = field(help="augmentation: mirror half of the images")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    arm: str = field(help="what is compared, see arms.py")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    data: DataParams = field(default_factory=DataParams)
    params: GateParams = field(default_factory=GateParams)


@stage(Config, paper="manidp", section="{dataset}.gate",
       files={"repeats": "manidp/{scale}:repeats", "data": "manidp/{scale}:{dataset}.data"})  # fmt: skip
def main(cfg: Config) -> None:
    """Gates the dense net, trains it by the arm's loss, measures it; writes weights, thresholds, metrics."""
    from stages.papers.manidp.arms import find

    find(cfg.arm)  # before torch is loaded: a wrong name answers at once
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.papers.manidp import experiment
    from stages.papers.manidp.dense import held_out_split, training_split
    from stages.papers.manidp.gated import GatedNet

    experiment.check(cfg.params)
    trained = files.RUNS / "manidp" / "train" / cfg.scale / cfg.dataset / str(cfg.seed)
    folder = files.RUNS / "manidp" / "gate" / cfg.scale / cfg.dataset / cfg.arm / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(trained / "manifest.json")
    split = training_split(cfg.dataset, cfg.data)
    held_out, levels = held_out_split(cfg.dataset, cfg.eval_split, cfg.data)
    made, records, rows, layers = [], [], [], []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        dense = weights.load_model(files.weights(trained, "dense", repetition, cfg.repeats))
        state = files.scratch(folder, repetition, "gate")
        net, record = experiment.gate_and_train(dense, split, cfg.params, repetition, device, cfg.arm, state)
        values = experiment.measure(net, held_out, device, levels, record["matched"])
        if isinstance(net, GatedNet):
            record["sliced_gap"] = experiment.sliced_gap(net.cpu(), held_out.x[:32])
            for row in experiment.active_channels(net, held_out.x[:200]):
                layers.append({"dataset": cfg.dataset, "arm": cfg.arm, "seed": repetition, **row, "kept": round(row["kept"])})
        made.append((files.weights(folder, "model", repetition, cfg.repeats), net))
        records.append(record)
        rows += files.metric_rows(cfg.dataset, cfg.arm, repetition, values)
        print(f"{cfg.arm} {repetition}: " + "  ".join(f"{name} {value:.4g}" for name, value in values.items()), flush=True)
    for path, net in made:
        weights.save_model(path, net)
    artifacts.write_json(folder / "thresholds.json", {"arm": cfg.arm, "repetitions": records})
    metrics = files.RUNS / "manidp" / "metrics" / cfg.scale / cfg.dataset / cfg.arm / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": layers})
    read = [trained / "manifest.json"]
    read += [data.PREPARED / cfg.dataset / f"{name}.npz" for name in ("train", cfg.eval_split)]
    files.seal(folder, [*(path for path, _ in made), folder / "thresholds.json", metrics], read, cfg)


if __name__ == "__main__":
    main()
