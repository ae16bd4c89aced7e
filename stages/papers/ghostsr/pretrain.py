"""Stage: the dense net that all ghost nets start from."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.ghostsr.settings import Backbone, Recipe


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    net: Backbone = field(default_factory=Backbone)
    params: Recipe = field(default_factory=Recipe)


@stage(
    Config, paper="ghostsr", section="pretrain",
    files={"repeats": "ghostsr/{scale}:repeats", "net": "ghostsr/{scale}:net"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Trains the dense net on patches of the training photographs; writes its weights."""
    from stages.lib import files, runtime
    from stages.papers.ghostsr import experiment, folders, saved, training

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    data = experiment.training_data(cfg.net.factor)
    folder, done = folders.folder("pretrained", cfg.scale, cfg.seed), []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        net = experiment.fresh(cfg.net, repetition, device)
        state = files.scratch(folder, repetition, "pretrain")
        training.fit(net, data, cfg.params, None, repetition, "pretrain", device, state, f"full {repetition}")
        done.append((folders.pretrained(cfg.scale, cfg.seed, repetition, cfg.repeats), net))
    for path, net in done:
        saved.save(path, net, saved.Form(cfg.net))
    files.seal(folder, [path for path, _ in done], folders.read(folders.TRAIN_SET, "train"), cfg)


if __name__ == "__main__":
    main()
