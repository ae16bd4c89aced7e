"""Stage: one convolutional net trained with each activation in the place of its ReLUs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.srs.settings import Train

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from stages.lib.data import Split


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Train = field(default_factory=Train)


def measured(
    cfg: Config, arm: str, train: "Split", tested: "Split", repetition: int, device: "torch.device", state: "Path"
) -> dict[str, float]:
    """Figures of one net: accuracy, loss of the first epoch, call sites, and parameters that the activation added."""
    from stages.lib import macs, training
    from stages.papers.srs import conversion

    dense = conversion.dense(cfg.params, train, repetition)
    net, sites = conversion.converted(dense, arm, cfg.params, train.x[:1])
    losses = conversion.fit(net.to(device), cfg.params, train, repetition, device, state, f"{arm} {repetition}")
    values = {
        "accuracy": training.evaluate(net, tested, device),
        "first_loss": losses[0],
        "sites": len(sites),
        "added_parameters": macs.parameters(net) - macs.parameters(dense),
    }
    return values | conversion.moved(net)


@stage(Config, paper="srs", section="{dataset}.train", files={"repeats": "srs/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains every arm of a seed from the same weights on the same order of the data; writes the figures of all."""
    from stages.lib import artifacts, data, dense, files, runtime

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    train = dense.limited(data.pixels(cfg.dataset, "train"), cfg.params.images, 0)
    tested = data.load(cfg.dataset, cfg.eval_split)
    metrics = files.RUNS / "srs" / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for arm in cfg.params.arms:
            state = files.scratch(metrics.with_suffix(""), repetition, arm)
            values = measured(cfg, arm, train, tested, repetition, device, state)
            rows += files.metric_rows(cfg.dataset, arm, repetition, values)
            print(f"{arm} {repetition}: accuracy {values['accuracy']:.3f}, {values['sites']} call sites", flush=True)
    artifacts.write_json(metrics, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
