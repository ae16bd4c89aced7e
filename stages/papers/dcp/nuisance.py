"""Stage: which channels reconstruction and discrimination keep in a generated net with nuisance channels."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage


@dataclass
class NuisanceParams:
    channels: int = field(help="input channels of the convolution; the first half of them carry signal")
    outputs: int = field(help="output channels of the convolution")
    classes: int = field(help="classes")
    images: int = field(help="generated images")
    side: int = field(help="pixels a side")
    signal: float = field(help="standard deviation of the class codes")
    noise: float = field(help="pixel noise of the signal channels")
    nuisance: float = field(help="pixel noise of the other channels")
    head_steps: int = field(help="SGD steps that fit the head")
    head_lr: float = field(help="their learning rate")
    head_batch: int = field(help="their batch")
    lr: float = field(help="learning rate of the inner problem (8)")
    batch: int = field(help="batch of the inner problem")
    passes: int = field(help="passes over the images for each inner problem")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    params: NuisanceParams = field(default_factory=NuisanceParams)


@stage(Config, paper="dcp", section="nuisance", files={"repeats": "dcp/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Selects half of the channels of a generated net by each loss and writes the recall of the signal channels."""
    from stages.lib import artifacts, files, runtime
    from stages.papers.dcp.nuisance_arms import recalls

    runtime.prepare(cfg.threads, "cpu", cfg.seed)  # too small for anything else
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for arm, values in recalls(cfg.params, repetition).items():
            rows += [
                {"dataset": "nuisance", "arm": arm, "seed": repetition, "metric": metric, "value": value}
                for metric, value in values.items()
            ]
            print(f"nuisance {repetition} {arm}: recall {values['signal_recall']:.3f}", flush=True)
    path = files.RUNS / "dcp" / "metrics" / cfg.scale / "nuisance" / f"{cfg.seed}.json"
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
