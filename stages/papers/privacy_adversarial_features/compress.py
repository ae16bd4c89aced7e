"""Stage: the maps of every arm and price for one data set and matrix seed."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.privacy_adversarial_features.settings import Compress


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    dataset: str = field(help="mixture, digits, motionsense")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: Compress = field(default_factory=Compress)


@stage(
    Config, paper="privacy_adversarial_features", section="{dataset}.compress",
    files={"repeats": "privacy_adversarial_features/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Learns what a device may send: maps by eigenproblems, by discriminant information and against adversaries.

    All arms of a repetition share initial weights and order of the samples. Only samples to train on are used.
    """
    from stages.lib import artifacts, files, runtime
    from stages.papers.privacy_adversarial_features import learning, saved, tables

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    source = tables.folder(cfg.scale, cfg.dataset, cfg.seed)
    artifacts.verify_manifest(source / "manifest.json")
    folder, made, read = saved.folder(cfg.scale, cfg.dataset, cfg.seed), [], [source / "manifest.json"]
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        path, found = source / f"{repetition}.npz", {}
        for secret in tables.secrets_of(path):
            found[secret] = learning.learn(tables.read(path, secret).to(device), cfg.params, repetition)
            print(f"{cfg.dataset} {repetition}: {secret}: {sum(map(len, found[secret].values()))} maps", flush=True)
        made.append(saved.write(folder / f"{repetition}.safetensors", found, cfg.params))
        read.append(path)
    files.seal(folder, made, read, cfg)


if __name__ == "__main__":
    main()
