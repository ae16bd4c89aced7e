"""Stage: a trained net pruned to a budget by DCP, by discriminant information, by L1 or at random, then fine-tuned."""

from dataclasses import dataclass

from stages.compare.channel_pruning.settings import Common, method
from stages.lib.stage import MISSING, field, stage
from stages.papers.dcp.prune import PruneParams as DcpParams
from stages.papers.dcp.train import Aux
from stages.papers.discriminant_information_pruning.prune import PruneParams as DiParams

METHODS = ("dcp", "di", "l1", "random")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    method: str = field(help="dcp, di, l1 or random")
    budget: str = field(help="name of a share of the MACs")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Common = field(default_factory=Common)
    dcp: DcpParams = field(default_factory=DcpParams)
    aux: Aux = field(default_factory=Aux)
    di: DiParams = field(default_factory=DiParams)


FILES = {
    "repeats": "channel_pruning/{scale}:repeats",
    "dcp": "dcp/{scale}:{dataset}.prune",
    "aux": "dcp/{scale}:{dataset}.train.aux",
    "di": "discriminant_information_pruning/{scale}:{dataset}.prune",
}


@stage(Config, paper="channel_pruning", section="{dataset}", files=FILES)
def main(cfg: Config) -> None:
    """Prunes the dense nets to the budget, fine-tunes them for the extra passes and writes nets and figures."""
    method(cfg.method, METHODS)
    share = cfg.params.share(cfg.budget)
    from stages.compare.channel_pruning import nets, output, pruners
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.lib.dense import limited

    trained = output.trained(cfg.scale, cfg.dataset, cfg.seed)
    cell = (cfg.scale, cfg.dataset, cfg.method, cfg.budget, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(trained / "manifest.json")
    split, held_out = limited(data.pixels(cfg.dataset, "train"), cfg.params.limit, 0), data.load(cfg.dataset, cfg.eval_split)
    made = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        dense = weights.load_model(files.weights(trained, "dense", repetition, cfg.repeats)).to(device)
        state = files.scratch(output.place("nets", *cell), repetition, "extra")
        thin, spent = pruners.thin(cfg, dense, split, share, repetition, device)
        nets.finetune(thin, split, cfg.params, repetition, device, state, spent)
        made.append((repetition, thin, nets.measured(thin, dense, held_out, device)))
    output.save(made, cell, cfg.repeats, output.place("metrics", *cell[:-1], f"{cfg.seed}.json"))


if __name__ == "__main__":
    main()
