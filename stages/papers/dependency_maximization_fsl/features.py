"""Stage: features of the evaluated classes by one seed's backbones, cached so that tasks are cheap."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.dependency_maximization_fsl.settings import Net


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    dataset: str = field(help="a prepared data set that is split by classes")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Net = field(default_factory=Net)


@stage(
    Config, paper="dependency_maximization_fsl", section="{dataset}.training.net",
    files={"repeats": "dependency_maximization_fsl/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write features of all images of eval_split's classes (val: validation classes, test: novel ones) to features.npz.

    The backbone is in eval mode and stays as it is; images are cut to the centre that the net sees.
    """
    from stages.lib import artifacts, data, episodes, files, runtime, weights
    from stages.papers.dependency_maximization_fsl import augmentation, backbone, places, pretraining

    source = places.folder("backbones", cfg.scale, cfg.dataset, cfg.seed)
    folder = places.folder("features", cfg.scale, cfg.dataset, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(source / "manifest.json")
    split = episodes.load(cfg.dataset, cfg.eval_split)
    pretraining.check_side(split, cfg.params.side)
    x = augmentation.centre(split.x, cfg.params.side)
    arrays, read = {"y": split.y.numpy()}, [source / "manifest.json"]
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        path = files.weights(source, "backbone", repetition, cfg.repeats)
        net = weights.load_model(path)
        wanted = backbone.record_of(cfg.params, split.x.shape[1], net.record()["classes"])
        if net.record() != wanted:
            raise StageError(f"{path}: holds another net than the params file describes; run the training stage again")
        arrays[f"features_{repetition}"] = backbone.extract(net, x, device).numpy()
        read.append(path)
        norm = float((arrays[f"features_{repetition}"] ** 2).sum(1).mean() ** 0.5)
        print(
            f"repetition {repetition}: {len(x)} images, {arrays[f'features_{repetition}'].shape[1]} features of norm {norm:.2f}"
        )
    artifacts.write_npz(folder / "features.npz", **arrays)
    read += [data.PREPARED / cfg.dataset / name for name in (f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, [folder / "features.npz"], read, cfg)


if __name__ == "__main__":
    main()
