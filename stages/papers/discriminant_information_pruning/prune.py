"""Stage: one arm prunes (or quantises) the trained net, fine-tunes it and is measured.

One stage, not two: at the small scale starting a stage costs as much as either half of its work.
"""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.discriminant_information_pruning.train import SLUG


@dataclass
class Interlude:
    every: int = field(help="greedy steps between two trainings")
    epochs: int = field(help="passes of each; 0 prunes in one go")
    lr: float = field(help="constant learning rate")
    batch: int = field(help="images a step")
    weight_decay: float = field(help="L2 penalty")


@dataclass
class Precision:
    levels: list[int] = field(default_factory=list, help="bits that a channel may have, rising; 0 prunes it")
    mean: float = field(help="mean bits of every layer's channels")


@dataclass
class PruneParams:
    budget: float = field(help="share of the dense net's MACs that may stay, in (0, 1)")
    budgets: dict[str, float] = field(default_factory=dict, help="shares of single arms, instead of `budget`")
    layers: str = field(
        help="what chooses the layer of a step. accuracy: on the hold-out (paper); information: DI lost per MAC"
    )
    delta: float = field(help="p, share of the dense net's MACs that a greedy step removes")
    most: float = field(help="a layer that has lost this share of its channels is not pruned further")
    hook: str = field(help="output: DI of the convolution's output (authors' code); activation: after its BN and ReLU")
    ridge: str = field(help="relative: rho times tr(K) / B; absolute: rho as it is (authors' code)")
    rho: float = field(help="the ridge")
    batches: int = field(help="class-balanced batches over which scores are summed")
    batch: int = field(help="images of each, B")
    limit: int = field(help="training images from which the batches come; 0 for all but the hold-out")
    holdout: int = field(help="training images that choose the layer of a step; the same in train and finetune")
    interlude: Interlude = field(default_factory=Interlude)
    precision: Precision = field(default_factory=Precision)


@dataclass
class Scratch:
    epochs: int = field(help="passes of the arm that starts from new weights: all that the other arms had together")
    lr: float = field(help="its learning rate at the start; it falls by cosine")


@dataclass
class Recalibration:
    passes: int = field(help="forward passes that measure the BN statistics anew")
    images: int = field(help="training images of each")


@dataclass
class Distillation:
    temperature: float = field(help="T, divides both nets' logits")
    logits: float = field(help="weight of T^2 KL(teacher || student)")
    maps: float = field(help="weight of the squared distance of normalised block outputs; 0 leaves it out")


@dataclass
class FinetuneParams:
    epochs: int = field(help="passes over the training images")
    lr: float = field(help="learning rate at the start; it falls by cosine")
    milestones: list[float] = field(
        default_factory=list, help="shares of the run at which the rate falls to a tenth; empty: cosine instead"
    )
    batch: int = field(help="images a step")
    weight_decay: float = field(help="L2 penalty")
    pad: int = field(help="augmentation: pixels of padding before a random crop, 0 for none")
    flip: bool = field(help="augmentation: mirror half of the images")
    limit: int = field(help="training images used, stratified; 0 for all but the hold-out")
    holdout: int = field(help="training images kept apart; the same in train and prune")
    recalibration: Recalibration = field(default_factory=Recalibration)
    distillation: Distillation = field(default_factory=Distillation)
    scratch: Scratch = field(default_factory=Scratch)


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    arm: str = field(help="what makes the net, see arms.py")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: PruneParams = field(default_factory=PruneParams)
    finetune: FinetuneParams = field(default_factory=FinetuneParams)


FILES = {"repeats": f"{SLUG}/{{scale}}:repeats", "finetune": f"{SLUG}/{{scale}}:{{dataset}}.finetune"}


@stage(Config, paper=SLUG, section="{dataset}.prune", files=FILES)
def main(cfg: Config) -> None:
    """Prunes the dense net by the arm's rule, cuts and fine-tunes it; writes the net, its channels and its metrics.

    Metrics are the accuracy before and after fine-tuning, MACs, parameters, bytes and the width of every layer.
    """
    from stages.papers.discriminant_information_pruning.arms import find

    find(cfg.arm)  # before torch is loaded: a wrong name answers at once
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.papers.discriminant_information_pruning.division import divided
    from stages.papers.discriminant_information_pruning.measure import finetuned
    from stages.papers.discriminant_information_pruning.thinning import pruned_net

    trained = files.RUNS / SLUG / "train" / cfg.scale / cfg.dataset / str(cfg.seed)
    folder = files.RUNS / SLUG / "prune" / cfg.scale / cfg.dataset / cfg.arm / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(trained / "manifest.json")
    split, judged = data.pixels(cfg.dataset, "train"), data.load(cfg.dataset, cfg.eval_split)
    images, _ = divided(split, cfg.finetune.limit, cfg.finetune.holdout)
    models, records, rows, layers = [], [], [], []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        dense = weights.load_model(files.weights(trained, "dense", repetition, cfg.repeats)).to(device)
        thin, record = pruned_net(cfg.arm, cfg.params, dense, split, repetition, device)
        state = files.scratch(folder, repetition, "finetune")
        net, values = finetuned(thin, cfg.arm, cfg.finetune, record, dense, images, judged, repetition, device, state)
        models.append((files.weights(folder, "model", repetition, cfg.repeats), net, values, repetition))
        records.append(record)
        layers += files.layer_rows(cfg.dataset, cfg.arm, repetition, record["layers"])
    for path, net, values, repetition in models:
        weights.save_model(path, net)
        rows += files.metric_rows(cfg.dataset, cfg.arm, repetition, {**values, "bytes": path.stat().st_size})
    artifacts.write_json(folder / "selection.json", {"arm": cfg.arm, "repetitions": records})
    metrics = files.RUNS / SLUG / "metrics" / cfg.scale / cfg.dataset / cfg.arm / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": layers})
    made = [*(path for path, *_ in models), folder / "selection.json", metrics]
    read = [trained / "manifest.json", data.PREPARED / cfg.dataset / "manifest.json"]
    read += [data.PREPARED / cfg.dataset / f"{name}.npz" for name in ("train", cfg.eval_split)]
    files.seal(folder, made, read, cfg)


if __name__ == "__main__":
    main()
