"""Stage: the dense net, and the same net fine-tuned with auxiliary losses at its pivots."""

from dataclasses import dataclass
from typing import Any

from stages.lib.stage import MISSING, field, stage


@dataclass
class Net:
    name: str = field(help="family of nets, as in stages.lib.models.CONSTRUCTORS")
    options: dict[str, Any] = field(
        default_factory=dict, help="its blocks, widths, stem, in_channels, image; the classes come from the data"
    )


@dataclass
class Aux:
    losses: int = field(help="P, auxiliary losses besides the net's own")
    pivots: list[int] = field(default_factory=list, help="blocks in front of each loss; empty takes the release's rule")
    epochs: int = field(help="passes over the training split with all losses together")
    lr: float = field(help="learning rate at the start; it falls by cosine")
    milestones: list[float] = field(
        default_factory=list, help="shares of the run at which the rate falls to a tenth; empty: cosine instead"
    )


@dataclass
class TrainParams:
    net: Net = field(default_factory=Net)
    aux: Aux = field(default_factory=Aux)
    epochs: int = field(help="passes over the training split, dense net")
    lr: float = field(help="learning rate at the start; it falls by cosine")
    milestones: list[float] = field(
        default_factory=list, help="shares of the run at which the rate falls to a tenth; empty: cosine instead"
    )
    batch: int = field(help="images a step")
    weight_decay: float = field(help="L2 penalty, also for the auxiliary training")
    pad: int = field(help="augmentation: pixels of padding before a random crop, 0 for none")
    flip: bool = field(help="augmentation: mirror half of the images")
    limit: int = field(help="training images used, stratified; 0 for all")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: TrainParams = field(default_factory=TrainParams)


FILES = {"repeats": "dcp/{scale}:repeats"}


@stage(Config, paper="dcp", section="{dataset}.train", files=FILES)
def main(cfg: Config) -> None:
    """Trains the dense net, then fine-tunes it with all auxiliary losses; writes dense and aux weights."""
    from stages.lib import data, files, runtime, weights
    from stages.lib.dense import dense, limited
    from stages.papers.dcp.auxiliary import auxiliary
    from stages.papers.dcp.saved import save_supervised

    folder = files.RUNS / "dcp" / "train" / cfg.scale / cfg.dataset / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split = limited(data.pixels(cfg.dataset, "train"), cfg.params.limit, 0)
    repetitions, made = files.repetitions(cfg.seed, cfg.repeats), []
    for repetition in repetitions:
        net = dense(cfg.params, split, repetition, device, files.scratch(folder, repetition, "dense"))
        made.append((files.weights(folder, "dense", repetition, cfg.repeats), net))
        aux = auxiliary(net, cfg.params, split, repetition, device, files.scratch(folder, repetition, "aux"))
        made.append((files.weights(folder, "aux", repetition, cfg.repeats), aux))
    for path, model in made:
        (weights.save_model if path.name.startswith("dense") else save_supervised)(path, model)
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, [path for path, _ in made], read, cfg)


if __name__ == "__main__":
    main()
