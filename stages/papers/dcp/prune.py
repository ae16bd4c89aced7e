"""Stage: one arm chooses channels (or kernels) of the trained net and the net is cut accordingly."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage


@dataclass
class Stagewise:
    epochs: int = field(help="passes over the training split before each stage is pruned")
    lr: float = field(help="learning rate at the start of each stage")
    batch: int = field(help="images a step")
    weight_decay: float = field(help="L2 penalty")
    limit: int = field(help="training images used, 0 for all")


@dataclass
class PruneParams:
    schedule: str = field(help="joint: from the net with joint auxiliary training (release); stagewise: Algorithm 1 (paper)")
    ratio: float = field(help="eta, share of each layer's input channels to prune, in [0, 1)")
    ratios: dict[str, float] = field(default_factory=dict, help="eta of single arms, instead of `ratio`")
    epsilon: float = field(help="threshold of eq. 10 for the adaptive arm")
    rebuild: float = field(help="weight of the reconstruction loss L_M")
    lam: float = field(help="lambda, weight of the discrimination loss L_S")
    form: str = field(help="release: L_M is the mean squared error; paper: half of it")
    score: str = field(help="release: sum of kernel norms of the gradient; paper: norm of the column")
    steps: int = field(help="greedy steps a layer at most; the best ceil(kept / steps) groups join in each")
    images: int = field(help="selection images, stratified; 0 for all of the training split")
    lr: float = field(help="learning rate of the inner problem (8)")
    batch: int = field(help="images a step of the inner problem")
    weight_decay: float = field(help="L2 penalty of the inner problem")
    passes: int = field(help="passes over the selection images for each inner problem")
    stagewise: Stagewise = field(default_factory=Stagewise)


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    arm: str = field(help="what chooses the channels, see arms.py")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: PruneParams = field(default_factory=PruneParams)


@stage(Config, paper="dcp", section="{dataset}.prune", files={"repeats": "dcp/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Chooses what stays by the arm's rule, cuts the rest out, writes the thin net and a record of the selection."""
    from stages.papers.dcp.arms import find

    find(cfg.arm)  # before torch is loaded: a wrong name answers at once
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.lib.dense import limited
    from stages.papers.dcp.saved import load_supervised
    from stages.papers.dcp.thinning import pruned_net

    trained = files.RUNS / "dcp" / "train" / cfg.scale / cfg.dataset / str(cfg.seed)
    folder = files.RUNS / "dcp" / "prune" / cfg.scale / cfg.dataset / cfg.arm / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(trained / "manifest.json")
    split = data.pixels(cfg.dataset, "train")
    models, records = [], []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        chosen = limited(split, cfg.params.images, repetition).to(device)
        aux = load_supervised(files.weights(trained, "aux", repetition, cfg.repeats)).to(device)
        dense = weights.load_model(files.weights(trained, "dense", repetition, cfg.repeats)).to(device)
        thin, record = pruned_net(cfg.arm, cfg.params, aux, dense, split, chosen, repetition)
        models.append((files.weights(folder, "model", repetition, cfg.repeats), thin))
        records.append(record)
    for path, model in models:
        weights.save_model(path, model)
    artifacts.write_json(folder / "selection.json", {"arm": cfg.arm, "repetitions": records})
    made = [*(path for path, _ in models), folder / "selection.json"]
    files.seal(folder, made, [trained / "manifest.json", data.PREPARED / cfg.dataset / "train.npz"], cfg)


if __name__ == "__main__":
    main()
