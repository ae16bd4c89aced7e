"""Stage: the strong baselines from random weights, at the passes of the merged net, over grouped folds."""

from stages.lib.stage import stage
from stages.papers.har_multistage.settings import Config


@stage(Config, paper="har_multistage", section="{dataset}", files={"repeats": "har_multistage/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Train the merged net at once, and a net of the raw windows with as many parameters.

    Writes runs/har_multistage/scratch/<scale>/<dataset>/<seed>/: answers.npz with the answers to the test windows, about.json.
    """
    from stages.lib import artifacts, files, runtime
    from stages.lib.macs import parameters
    from stages.lib.sensors import windows
    from stages.papers.har_multistage import arms, baselines, learning, problem, saved
    from stages.papers.har_multistage.multistage import Run

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    found = problem.chosen_windows(windows.load(cfg.dataset), list(cfg.params.channels), cfg.eval_split)
    place, answers, about = saved.folder("scratch", cfg.scale, cfg.dataset, cfg.seed), {}, []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        own = problem.make(found, cfg.params, arms.GROUPED, repetition)

        def state(purpose: str, repetition: int = repetition):
            return files.scratch(place, repetition, purpose)

        run = Run(own, cfg.params, repetition, device, state, f"scratch {repetition}")
        for arm in arms.SCRATCH:
            net, told = getattr(baselines, arm)(run)
            logits = learning.predict(net, own.examples("test", *net.names))
            answers[f"{arm}_{repetition}"] = logits.argmax(1).numpy()
            sizes = {"passes": told.passes, "parameters": parameters(net), "curve": told.curve}
            about.append({"arm": arm, "seed": repetition, **sizes})
            print(f"{arm} {repetition}: validation {told.accuracy:.3f} at epoch {told.epoch}", flush=True)
    artifacts.write_npz(place / "answers.npz", **answers)
    artifacts.write_json(place / "about.json", {"trained": about})
    files.seal(place, [place / "answers.npz", place / "about.json"], saved.prepared(cfg.dataset), cfg)


if __name__ == "__main__":
    main()
