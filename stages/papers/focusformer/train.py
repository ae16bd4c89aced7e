"""Stage: one supernet, trained with uniform draws of architectures or beside the architecture sampler."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.focusformer.settings import Params


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    supernet: str = field(help="uniform; uniform_extra: with the passes that the sampler costs; focus: with the sampler")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, paper="focusformer", section="{dataset}.supernet", files={"repeats": "focusformer/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains a supernet on the images that are not held out; writes its weights, the sampler's, and the MACs of all steps."""
    from stages.papers.focusformer.arms import find_supernet

    find_supernet(cfg.supernet)  # before torch is loaded: a wrong name answers at once
    from stages.lib import artifacts, data, files, runtime
    from stages.papers.focusformer import experiment, training

    folder = experiment.supernet_folder(cfg.scale, cfg.dataset, cfg.supernet, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split, held_out = experiment.divide(data.pixels(cfg.dataset, "train"), cfg.params.held_out)
    params = cfg.params
    if cfg.supernet == "uniform_extra":
        params = training.extended(params, -(-len(split) // params.recipe.batch))
    made, costs, done = [], {}, []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        state = files.scratch(folder, repetition, "run")
        found = training.train_supernet(
            params, split, held_out, cfg.supernet == "focus", repetition, device, state, f"{cfg.supernet} {repetition}"
        )
        done.append((repetition, found))
    for repetition, found in done:
        made.append(files.weights(folder, "supernet", repetition, cfg.repeats))
        artifacts.save_tensors(made[-1], found.net.state_dict(), found.net.record())
        if found.sampler is not None:
            made.append(files.weights(folder, "sampler", repetition, cfg.repeats))
            artifacts.save_tensors(made[-1], found.sampler.state_dict(), experiment.sampler_record(found.sampler))
        costs[f"costs_{repetition}"] = found.costs.cpu().numpy()
    artifacts.write_npz(folder / "costs.npz", **costs)
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, [*made, folder / "costs.npz"], read, cfg)


if __name__ == "__main__":
    main()
