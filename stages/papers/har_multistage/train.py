"""Stage: an extractor in every transformed space, over grouped folds and over folds of windows (stage 1 of the method)."""

from stages.lib.stage import stage
from stages.papers.har_multistage.settings import Config


@stage(Config, paper="har_multistage", section="{dataset}", files={"repeats": "har_multistage/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Train one extractor a transformed space with a head of its own; keep the best validation epoch.

    Writes runs/har_multistage/single/<scale>/<dataset>/<seed>/<protocol>-<space>.safetensors.
    """
    from stages.lib import files, runtime
    from stages.lib.sensors import windows
    from stages.lib.sensors.folds import PROTOCOLS
    from stages.papers.har_multistage import individual, problem, saved

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    found = problem.chosen_windows(windows.load(cfg.dataset), list(cfg.params.channels), cfg.eval_split)
    place, made = saved.folder("single", cfg.scale, cfg.dataset, cfg.seed), []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for protocol in PROTOCOLS:
            own = problem.make(found, cfg.params, protocol, repetition)
            for name in cfg.params.transforms.names:
                state = files.scratch(place, repetition, f"{protocol}-{name}")
                branch = individual.train_branch(
                    name, own, cfg.params, repetition, device, state, f"{protocol} {name} {repetition}"
                )
                path = saved.branch_path(place, protocol, name, repetition, cfg.repeats)
                made.append(saved.save(path, branch, cfg.params, own.classes))
                told = branch.trained
                print(f"{protocol} {name} {repetition}: validation {told.accuracy:.3f} at epoch {told.epoch}", flush=True)
    files.seal(place, made, saved.prepared(cfg.dataset), cfg)


if __name__ == "__main__":
    main()
