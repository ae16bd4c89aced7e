"""Stage: the lesions that every arm finds in the tested scans, scan by scan."""

from dataclasses import dataclass

from stages.lib.stage import field, stage
from stages.papers.covsegnet.settings import Common, Settings


@dataclass
class Config(Common):
    """Command line and parameters of the stage."""

    params: Settings = field(default_factory=Settings)


@stage(Config, paper="covsegnet", section="{dataset}", files={"repeats": "covsegnet/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Measures all arms on the scans of the evaluation split and writes the means over scans."""
    from stages.lib import artifacts, files, runtime
    from stages.papers.covsegnet import division, experiment, scans

    place = (cfg.scale, cfg.dataset)
    folder = files.RUNS.joinpath("covsegnet", "nets", *place, str(cfg.seed))
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(folder / "manifest.json")
    found, rows = scans.load(cfg.dataset), []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        tested = division.divide(found, cfg.eval_split, cfg.params.scans, repetition).tested
        bench = experiment.Bench(cfg.params, experiment.load(folder, cfg.params, repetition, cfg.repeats), device)
        for name, values in experiment.table(bench, tested).items():
            rows += files.metric_rows(cfg.dataset, name, repetition, values)
    path = files.RUNS.joinpath("covsegnet", "metrics", *place, f"{cfg.seed}.json")
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
