"""Stage: one seed's backbones, trained by plain classification of the base classes."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.dependency_maximization_fsl.settings import Training


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    dataset: str = field(help="a prepared data set that is split by classes")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: Training = field(default_factory=Training)


@stage(
    Config, paper="dependency_maximization_fsl", section="{dataset}.training",
    files={"repeats": "dependency_maximization_fsl/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Train a backbone on the base classes for every repetition; writes its weights with the record of the net."""
    from stages.lib import data, episodes, files, runtime, weights
    from stages.papers.dependency_maximization_fsl import places, pretraining

    folder = places.folder("backbones", cfg.scale, cfg.dataset, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split, made = episodes.load(cfg.dataset, "train"), []
    nets = {}
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        state = files.scratch(folder, repetition, "backbone")
        nets[repetition] = pretraining.pretrain(cfg.params, split, repetition, device, state)
    for repetition, net in nets.items():
        made.append(files.weights(folder, "backbone", repetition, cfg.repeats))
        weights.save_model(made[-1], net.cpu())
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, made, read, cfg)


if __name__ == "__main__":
    main()
