"""Stage: what trains from scratch: CHEX, and the thin net of uniform width."""

import dataclasses
from dataclasses import dataclass

from stages.compare.channel_pruning.settings import Common, method
from stages.lib.stage import MISSING, field, stage
from stages.papers.chex.settings import Params as ChexParams

METHODS = ("chex", "thin_scratch")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    method: str = field(help="chex or thin_scratch")
    budget: str = field(help="name of a share of the MACs")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Common = field(default_factory=Common)
    chex: ChexParams = field(default_factory=ChexParams)


FILES = {"repeats": "channel_pruning/{scale}:repeats", "chex": "chex/{scale}:{dataset}"}


def of_budget(chex: ChexParams, common: Common, share: float) -> ChexParams:
    """CHEX's settings with the comparison's passes and MACs; exploration ends at the same share of the run."""
    epochs = common.epochs + common.extra
    sgd = dataclasses.replace(
        chex.sgd, epochs=epochs, lr=common.lr, batch=common.batch, weight_decay=common.weight_decay, limit=0
    )
    old = chex.exploration
    last = max(old.interval, round(old.last / chex.sgd.epochs * epochs / old.interval) * old.interval)
    exploration = dataclasses.replace(old, macs=share, last=last)
    return dataclasses.replace(chex, sgd=sgd, exploration=exploration)


@stage(Config, paper="channel_pruning", section="{dataset}", files=FILES)
def main(cfg: Config) -> None:
    """Trains for the dense net's passes and the extra ones, at the budget's MACs, and writes nets and figures."""
    method(cfg.method, METHODS)
    share = cfg.params.share(cfg.budget)
    from stages.compare.channel_pruning import nets, output
    from stages.lib import data, files, models, runtime, surgery
    from stages.lib.dense import limited
    from stages.lib.runtime import derive_seed, seed_everything
    from stages.papers.chex import runs

    cell = (cfg.scale, cfg.dataset, cfg.method, cfg.budget, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split, held_out = limited(data.pixels(cfg.dataset, "train"), cfg.params.limit, 0), data.load(cfg.dataset, cfg.eval_split)
    made = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        state = files.scratch(output.place("nets", *cell), repetition, "run")
        dense = nets.fresh(cfg.params, split, repetition)
        if cfg.method == "chex":
            chex = of_budget(cfg.chex, cfg.params, share)
            thin, _ = runs.explore(runs.scaled(dense, chex.net.gamma), split, chex, repetition, device, state)
        else:
            widths = surgery.kept_widths(dense, nets.uniform_rate(dense, share))
            seed_everything(derive_seed(repetition, "init"))
            thin = models.build(type(dense).narrowed(dense.record(), widths))
            epochs = cfg.params.epochs + cfg.params.extra
            nets.fit(thin, split, cfg.params, repetition, device, epochs=epochs, lr=cfg.params.lr, state=state, purpose="dense")
        made.append((repetition, thin, nets.measured(thin, dense, held_out, device)))
    output.save(made, cell, cfg.repeats, output.place("metrics", *cell[:-1], f"{cfg.seed}.json"))


if __name__ == "__main__":
    main()
