"""Stage: what users and attackers make of the samples that devices send, for every arm of one data set and matrix seed."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.privacy_adversarial_features.settings import Attack


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    dataset: str = field(help="mixture, digits, motionsense")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: Attack = field(default_factory=Attack)


@stage(
    Config, paper="privacy_adversarial_features", section="{dataset}.attack",
    files={"repeats": "privacy_adversarial_features/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Fits classifiers of four families afresh to what each map sends, for the utility label and for the secret.

    The most accurate of them counts for both. Metrics end in _<secret> where a data set has several.
    """
    from stages.lib import artifacts, files, runtime
    from stages.papers.privacy_adversarial_features import measures, saved, tables

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    source, maps = (place.folder(cfg.scale, cfg.dataset, cfg.seed) for place in (tables, saved))
    for place in (source, maps):
        artifacts.verify_manifest(place / "manifest.json")
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        path = source / f"{repetition}.npz"
        secrets = tables.secrets_of(path)
        for secret in secrets:
            task = tables.read(path, secret).to(device)
            found = measures.measure(task, *saved.read(maps / f"{repetition}.safetensors", secret), cfg.params, repetition)
            ending = f"_{secret}" if len(secrets) > 1 else ""
            for arm, values in found.items():
                named = {f"{name}{ending}": value for name, value in values.items()}
                rows += files.metric_rows(cfg.dataset, arm, repetition, named)
            told = found["kdi_net"]
            print(f"{cfg.dataset} {repetition}: {secret}: kdi_net {told['utility']:.3f} {told['sensitive']:.3f}", flush=True)
    path = files.RUNS / tables.SLUG / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
