"""Stage: the dense net, trained on all training images but the hold-out."""

from dataclasses import dataclass
from typing import Any

from stages.lib.stage import MISSING, field, stage

SLUG = "discriminant_information_pruning"


@dataclass
class Net:
    name: str = field(help="family of nets, as in stages.lib.models.CONSTRUCTORS")
    options: dict[str, Any] = field(
        default_factory=dict, help="its blocks, widths, stem, in_channels, image; the classes come from the data"
    )


@dataclass
class TrainParams:
    net: Net = field(default_factory=Net)
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
    holdout: int = field(help="training images kept apart for choosing layers; the same in prune and finetune")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: TrainParams = field(default_factory=TrainParams)


@stage(Config, paper=SLUG, section="{dataset}.train", files={"repeats": f"{SLUG}/{{scale}}:repeats"})
def main(cfg: Config) -> None:
    """Trains the dense net of every repetition and writes its weights."""
    from stages.lib import data, files, runtime, weights
    from stages.lib.dense import dense
    from stages.papers.discriminant_information_pruning.division import divided

    folder = files.RUNS / SLUG / "train" / cfg.scale / cfg.dataset / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    images, _ = divided(data.pixels(cfg.dataset, "train"), cfg.params.limit, cfg.params.holdout)
    made = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        net = dense(cfg.params, images, repetition, device, files.scratch(folder, repetition, "dense"))
        made.append((files.weights(folder, "dense", repetition, cfg.repeats), net))
    for path, net in made:
        weights.save_model(path, net)
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, [path for path, _ in made], read, cfg)


if __name__ == "__main__":
    main()
