"""Stage: the dense nets that are pruned, and what they reach with the extra passes."""

from dataclasses import dataclass

from stages.compare.channel_pruning.settings import Common
from stages.lib.stage import MISSING, field, stage


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Common = field(default_factory=Common)


FILES = {"repeats": "channel_pruning/{scale}:repeats"}


@stage(Config, paper="channel_pruning", section="{dataset}", files=FILES)
def main(cfg: Config) -> None:
    """Trains the dense nets and writes them; goes on for the extra passes and writes what that gives, as the reference."""
    import copy

    from stages.compare.channel_pruning import nets, output
    from stages.lib import data, files, runtime, weights
    from stages.lib.dense import limited

    folder = output.trained(cfg.scale, cfg.dataset, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split, held_out = limited(data.pixels(cfg.dataset, "train"), cfg.params.limit, 0), data.load(cfg.dataset, cfg.eval_split)
    made, further = [], []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        net = nets.fresh(cfg.params, split, repetition)
        nets.fit(
            net, split, cfg.params, repetition, device, epochs=cfg.params.epochs, lr=cfg.params.lr,
            state=files.scratch(folder, repetition, "dense"), purpose="dense",
        )  # fmt: skip
        made.append((files.weights(folder, "dense", repetition, cfg.repeats), copy.deepcopy(net)))
        nets.finetune(net, split, cfg.params, repetition, device, files.scratch(folder, repetition, "extra"))
        further.append((repetition, net, nets.measured(net, net, held_out, device)))
    for path, net in made:
        weights.save_model(path, net)
    cell = (cfg.scale, cfg.dataset, "dense", "all", cfg.seed)
    output.save(further, cell, cfg.repeats, folder / "reference.json")
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, [*(path for path, _ in made), folder / "reference.json"], read, cfg)


if __name__ == "__main__":
    main()
