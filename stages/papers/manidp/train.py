"""Stage: the dense net that every arm starts from."""

from dataclasses import dataclass
from typing import Any

from stages.lib.stage import MISSING, field, stage


@dataclass
class Net:
    name: str = field(help="family of nets: resnet_bare, resnet_cifar, or resnet of stages.lib.models")
    options: dict[str, Any] = field(
        default_factory=dict, help="its blocks, widths, stem, in_channels, image; the classes come from the data"
    )


@dataclass
class TrainParams:
    net: Net = field(default_factory=Net)
    epochs: int = field(help="passes over the training split")
    lr: float = field(help="learning rate at the start; it falls by cosine")
    batch: int = field(help="images a step")
    weight_decay: float = field(help="L2 penalty")
    pad: int = field(help="augmentation: pixels of padding before a random crop, 0 for none")
    flip: bool = field(help="augmentation: mirror half of the images")


@dataclass
class DataParams:
    limit: int = field(help="training images used, stratified; 0 for all")
    noise: float = field(help="largest level of the noise that each image gets at a level of its own; 0 for none")
    noise_seed: int = field(help="seed of levels and noise: one data set for all repetitions")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    data: DataParams = field(default_factory=DataParams)
    params: TrainParams = field(default_factory=TrainParams)


@stage(Config, paper="manidp", section="{dataset}.train",
       files={"repeats": "manidp/{scale}:repeats", "data": "manidp/{scale}:{dataset}.data"})  # fmt: skip
def main(cfg: Config) -> None:
    """Trains the dense net and writes its weights."""
    from stages.lib import data, files, runtime, weights
    from stages.papers.manidp.dense import dense_net, training_split

    folder = files.RUNS / "manidp" / "train" / cfg.scale / cfg.dataset / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split, made = training_split(cfg.dataset, cfg.data), []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        net = dense_net(cfg.params, split, repetition, device, files.scratch(folder, repetition, "dense"))
        made.append((files.weights(folder, "dense", repetition, cfg.repeats), net))
    for path, net in made:
        weights.save_model(path, net)
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, [path for path, _ in made], read, cfg)


if __name__ == "__main__":
    main()
