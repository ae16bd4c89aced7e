"""Stage: all arms on the same few-shot tasks of one seed, from cached features."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.dependency_maximization_fsl.settings import Tasks


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    dataset: str = field(help="a prepared data set that is split by classes")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: Tasks = field(default_factory=Tasks)


@stage(
    Config, paper="dependency_maximization_fsl", section="{dataset}.tasks",
    files={"repeats": "dependency_maximization_fsl/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Fit and measure every arm of every setting; writes accuracies of all tasks and the metrics of all arms.

    Arms of a setting see the same tasks. True labels of unlabelled images are used for scoring only.
    """
    from stages.papers.dependency_maximization_fsl.arms import find_arm

    for setting in cfg.params.settings.values():
        for name in setting.arms:
            find_arm(name)  # before torch is loaded: a wrong name answers at once
    from stages.lib import artifacts, files, runtime
    from stages.papers.dependency_maximization_fsl import experiment, places

    source = places.folder("features", cfg.scale, cfg.dataset, cfg.seed)
    folder = places.folder("tasks", cfg.scale, cfg.dataset, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(source / "manifest.json")
    rows, arrays = [], {}
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        features, labels = experiment.read_features(source / "features.npz", f"features_{repetition}")
        values: dict[str, dict[str, float]] = {}
        for name, setting in cfg.params.settings.items():
            drawn = experiment.draw(setting, cfg.params, labels, repetition, name)
            found = experiment.measure(features, drawn, setting, cfg.params, repetition, device)
            for arm, scores in found.items():
                values.setdefault(arm, {}).update(experiment.figures(name, scores, found.get("ce"), cfg.params.rounds.rounds))
                arrays[f"{name}/{arm}/{repetition}"] = scores.accuracy
            told = ", ".join(f"{arm} {scores.accuracy.mean():.3f}" for arm, scores in found.items())
            print(f"repetition {repetition}, {name}, {len(drawn)} tasks: {told}", flush=True)
        rows += [row for arm, own in values.items() for row in files.metric_rows(cfg.dataset, arm, repetition, own)]
    artifacts.write_npz(folder / "accuracies.npz", **arrays)
    metrics = places.metrics_file(cfg.scale, cfg.dataset, cfg.seed)
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    files.seal(folder, [folder / "accuracies.npz", metrics], [source / "features.npz", source / "manifest.json"], cfg)


if __name__ == "__main__":
    main()
