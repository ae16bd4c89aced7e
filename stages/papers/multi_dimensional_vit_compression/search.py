"""Stage: every arm's policy for the trained nets of one seed."""

from dataclasses import dataclass

from stages.lib.stage import field, stage
from stages.papers.multi_dimensional_vit_compression.settings import Compress, SearchConfig


@dataclass
class Config(SearchConfig):
    params: Compress = field(default_factory=Compress)


@stage(
    Config, paper="multi_dimensional_vit_compression", section="{dataset}.compress",
    files={"train": "multi_dimensional_vit_compression/{scale}:{dataset}.train",
           "repeats": "multi_dimensional_vit_compression/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Ranks heads and neurons, searches how many stay, and writes the policies with all that was scored.

    Candidates are scored on held-out training images; neither the validation nor the test split is read.
    """
    from stages.lib import artifacts, data, files, runtime
    from stages.papers.multi_dimensional_vit_compression import experiment, saved, searching

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split, held_out = experiment.training_images(cfg.dataset, cfg.train)
    held_out, records, places = held_out.to(device), [], {}
    nets = saved.dense(cfg, split, device)
    for repetition, net in zip(files.repetitions(cfg.seed, cfg.repeats), nets, strict=True):
        found = experiment.find_all(net, split, held_out, cfg.params, repetition, device)
        places[f"places_{repetition}"] = experiment.label_places(net, split, cfg.params, device).numpy()
        records.append({"seed": repetition, "arms": {name: one.record() for name, one in found.items()}})
        tops = {name: searching.best(one.trials).score for name, one in found.items() if one.trials}
        print(f"{repetition}: " + ", ".join(f"{name} {top:.3f}" for name, top in tops.items()), flush=True)
    folder = experiment.folder_of("search", cfg.scale, cfg.dataset, cfg.seed)
    artifacts.write_json(folder / "policies.json", {"repetitions": records})
    artifacts.write_npz(folder / "places.npz", **places)
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    read.append(experiment.folder_of("dense", cfg.scale, cfg.dataset, cfg.seed) / "manifest.json")
    files.seal(folder, [folder / "policies.json", folder / "places.npz"], read, cfg)


if __name__ == "__main__":
    main()
