"""Stage: an arm's genotype trained on its own from random weights, and measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.eoinas.settings import Images, NetParams, TrainParams

if TYPE_CHECKING:
    from stages.lib.darts import Genotype

SECTIONS = ("images", "net", "train")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    arm: str = field(help="where the genotype comes from, see arms.py")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    images: Images = field(default_factory=Images)
    net: NetParams = field(default_factory=NetParams)
    train: TrainParams = field(default_factory=TrainParams)


@stage(Config, files={"repeats": "eoinas/{scale}:repeats", **{key: f"eoinas/{{scale}}:{{dataset}}.{key}" for key in SECTIONS}})
def main(cfg: Config) -> None:
    """Trains the net of a found genotype on the whole training split; writes weights, accuracy and sizes."""
    from stages.papers.eoinas.arms import known

    known(cfg.arm)
    cfg.train.check()
    from stages.lib import artifacts, data, files, macs, runtime, training, weights
    from stages.papers.eoinas import descent, found, images, nets

    folder = files.RUNS / "eoinas" / "train" / cfg.scale / cfg.dataset / cfg.arm / str(cfg.seed)
    source = found.folder(cfg.scale, cfg.dataset, cfg.arm, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    entries = found.load(source, files.repetitions(cfg.seed, cfg.repeats))
    split = images.load(cfg.dataset, "train", cfg.images)
    held_out = images.load(cfg.dataset, cfg.eval_split, cfg.images)
    made, rows = [], []
    for item in entries:
        repetition = item["seed"]
        net = nets.fresh(item["genotype"], cfg.net, split, repetition, item["channels"], cfg.train.auxiliary > 0)
        seed, state = runtime.derive_seed(repetition, "train"), files.scratch(folder, repetition, "train")
        descent.fit(net, split, cfg.train, seed, device, state, f"{cfg.arm} {repetition}")
        cost = macs.total(net.record())
        values = {
            "accuracy": training.evaluate(net, held_out, device), "macs": cost.macs, "parameters": cost.params,
            "search_macs": item["spent"], "weighted_operations": weighted(item["genotype"]),
        }  # fmt: skip
        print(f"{cfg.arm} {repetition}: {cost.macs} MACs, {cost.params} parameters", flush=True)
        rows += files.metric_rows(cfg.dataset, cfg.arm, repetition, values)
        made.append((files.weights(folder, "model", repetition, cfg.repeats), net))
    for path, net in made:
        weights.save_model(path, net)
    metrics = files.RUNS / "eoinas" / "metrics" / cfg.scale / cfg.dataset / cfg.arm / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, [*(path for path, _ in made), metrics], [*read, source / "search.json"], cfg)


def weighted(genotype: "Genotype") -> float:
    """Share of a genotype's edges whose operation has weights: convolutions."""
    operations = [op for op, _ in (*genotype.normal, *genotype.reduce)]
    return sum("conv" in op for op in operations) / len(operations)


if __name__ == "__main__":
    main()
