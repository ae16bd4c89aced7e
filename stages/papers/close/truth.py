"""Stage: the table of truths, accuracies of stand-alone nets."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.close.settings import Candidates, Division, Truth
from stages.papers.close.shape import Shape


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    net: Shape = field(default_factory=Shape)
    space: Candidates = field(default_factory=Candidates)
    data: Division = field(default_factory=Division)
    params: Truth = field(default_factory=Truth)


@stage(
    Config, paper="close", section="{dataset}.truth",
    files={name: f"close/{{scale}}:{{dataset}}.{name}" for name in ("net", "space", "data")},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Train every architecture of the table alone, many at once, and write their accuracies on the evaluation split."""
    from stages.lib import artifacts, data, files, runtime
    from stages.papers.close import benchmark, division, space

    listed = space.sample(cfg.space.architectures, cfg.space.seed, cfg.space.operations)
    folder = files.RUNS / "close" / "truth" / cfg.scale / cfg.dataset
    device = runtime.prepare(cfg.threads, cfg.device, cfg.params.seed)
    train, _ = division.divide(data.pixels(cfg.dataset, "train"), cfg.data)
    held_out = data.load(cfg.dataset, cfg.eval_split)
    seeds = range(cfg.params.seed, cfg.params.seed + cfg.params.seeds)
    found = [benchmark.together(cfg.net, listed, train, held_out, cfg.params, seed, device) for seed in seeds]
    rows = [
        {"architecture": space.text(architecture), "accuracies": list(each), "accuracy": sum(each) / len(each)}
        for architecture, each in zip(listed, zip(*found, strict=True), strict=True)
    ]
    artifacts.write_json(folder / "table.json", {"split": cfg.eval_split, "rows": rows})
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, [folder / "table.json"], read, cfg)
    best = max(rows, key=lambda row: row["accuracy"])
    print(f"{len(rows)} architectures; best {best['architecture']} {best['accuracy']:.3f}")


if __name__ == "__main__":
    main()
