"""Stage: the dense transformers of one matrix seed."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.multi_dimensional_vit_compression.settings import Train


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: Train = field(default_factory=Train)


@stage(
    Config, paper="multi_dimensional_vit_compression", section="{dataset}.train",
    files={"repeats": "multi_dimensional_vit_compression/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Trains a transformer on the images that are not held out for the search; writes its weights."""
    from stages.lib import data, files, runtime, weights
    from stages.lib.vit import training
    from stages.papers.multi_dimensional_vit_compression import experiment

    folder = experiment.folder_of("dense", cfg.scale, cfg.dataset, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split, _ = experiment.training_images(cfg.dataset, cfg.params)
    made = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        net = experiment.fresh(cfg.params, split, repetition)
        state = files.scratch(folder, repetition, "dense")
        training.train(net, split, cfg.params.recipe, repetition, device, state, f"dense {repetition}")
        made.append((files.weights(folder, "dense", repetition, cfg.repeats), net))
    for path, net in made:
        weights.save_model(path, net)
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, [path for path, _ in made], read, cfg)


if __name__ == "__main__":
    main()
