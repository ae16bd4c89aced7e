"""Stage: ranking quality of one seed's supernets against the table of truths, at every checkpoint."""

from dataclasses import dataclass

from stages.lib.checks import between
from stages.lib.stage import StageError, field, stage
from stages.papers.close.settings import CHOICE


@dataclass
class Ranking:
    """What the metrics need."""

    ratio: float = field(help="K of P@topK and BR@K as a share of the table")

    def check(self) -> None:
        """StageError for a share out of range."""
        between("ranking.ratio", self.ratio, 1e-9, 1 + 1e-9)


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    params: Ranking = field(default_factory=Ranking)


@stage(Config, paper="close", section="{dataset}.ranking", files={"repeats": "close/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Write the seed's metrics: KD, P@topK, BR@K, regret and parameters of every arm, and the curve over the budget."""
    from stages.lib import artifacts, files
    from stages.papers.close import quality

    root = files.RUNS / "close"
    folder = root / "supernets" / cfg.scale / cfg.dataset / str(cfg.seed)
    table = root / "truth" / cfg.scale / cfg.dataset / "table.json"
    record, known = artifacts.read_json(folder / "supernets.json"), artifacts.read_json(table)
    if not isinstance(known, dict) or not known.get("rows"):
        raise StageError(f"{table}: holds no rows; run the truth stage again")
    truth = quality.aligned(known["rows"], record["architectures"], str(table))
    for made in (folder, table.parent):
        artifacts.verify_manifest(made / "manifest.json")
    arms = [*record["parameters"], *record["extra"]]
    rows, curves = [], []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for arm in arms:
            (scores,) = artifacts.read_npz(folder / "scores.npz", f"{arm}/{repetition}")
            found = quality.values(scores, truth, cfg.params.ratio)
            if arm in record["parameters"]:
                found["parameters"], found["gate_parameters"] = record["parameters"][arm]
                points = zip(record["checkpoints"], scores, strict=True)
                curves += [
                    {"arm": arm, "seed": repetition, "epoch": epoch, **quality.point(row, truth, cfg.params.ratio)}
                    for epoch, row in points
                ]
            else:
                found = {name: found[name] for name in ("kendall", "precision", "best_rank", "regret")}
            rows += files.metric_rows(cfg.dataset, arm, repetition, found)
        chance = {"regret": quality.regret_of_random_choice(truth)}
        rows += files.metric_rows(cfg.dataset, CHOICE, repetition, chance)
    metrics = root / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": [], "curves": curves})
    print(f"seed {cfg.seed}: {len(rows)} metrics of {len(arms)} arms against {len(truth)} truths -> {metrics}")


if __name__ == "__main__":
    main()
