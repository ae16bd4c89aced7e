"""Stage: ManiDP's gates on the trained net, with thresholds that meet the budget on average."""

import dataclasses
import math
from dataclasses import dataclass

from stages.compare.channel_pruning.settings import Common
from stages.lib.stage import MISSING, field, stage
from stages.papers.manidp.gate import GateParams


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    budget: str = field(help="name of a share of the MACs")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    gated_lr: float = field(help="learning rate of the gated passes at the start; more diverges on some seeds")
    params: Common = field(default_factory=Common)
    manidp: GateParams = field(default_factory=GateParams)


FILES = {
    "repeats": "channel_pruning/{scale}:repeats",
    "gated_lr": "channel_pruning/{scale}:gated_lr.{dataset}",
    "manidp": "manidp/{scale}:{dataset}.gate",
}


def keep_rate(share: float) -> float:
    """Channels to keep for a share s of a block's MACs: s = (r + r^2) / 2, the first convolution costing r, the second r^2."""
    return (math.sqrt(1 + 8 * share) - 1) / 2


@stage(Config, paper="channel_pruning", section="{dataset}", files=FILES)
def main(cfg: Config) -> None:
    """Trains gates for the extra passes; thresholds are then matched to the budget on training images."""
    share = cfg.params.share(cfg.budget)
    from stages.compare.channel_pruning import nets, output  # noqa: F401  (nets registers the family that is loaded)
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.lib.dense import limited
    from stages.papers.manidp import experiment

    trained = output.trained(cfg.scale, cfg.dataset, cfg.seed)
    cell = (cfg.scale, cfg.dataset, "manidp", cfg.budget, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(trained / "manifest.json")
    split, held_out = limited(data.pixels(cfg.dataset, "train"), cfg.params.limit, 0), data.load(cfg.dataset, cfg.eval_split)
    params = dataclasses.replace(
        cfg.manidp, epochs=cfg.params.extra, lr=cfg.gated_lr, budget=share, keep_rates={}, keep_rate=keep_rate(share),
        warmup=cfg.params.warmup, hold=cfg.params.hold,
    )  # fmt: skip
    made = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        dense = weights.load_model(files.weights(trained, "dense", repetition, cfg.repeats))
        state = files.scratch(output.place("nets", *cell), repetition, "gate")
        net, record = experiment.gate_and_train(dense, split, params, repetition, device, "manidp", state)
        found = experiment.measure(net, held_out, device, matched=record["matched"])
        whole = found["macs"] / found["macs_ratio"]
        values = {"accuracy": found["accuracy_matched"], "macs": found["macs_ratio_matched"] * whole}
        values |= {"macs_ratio": found["macs_ratio_matched"], "parameters": found["parameters"]}
        made.append((repetition, net.cpu(), values))
    output.save(made, cell, cfg.repeats, output.place("metrics", *cell[:-1], f"{cfg.seed}.json"))


if __name__ == "__main__":
    main()
