"""Stage: a table on COVID-CT: what tells the classes apart, and that the traces of the files no longer do."""

from dataclasses import dataclass

from stages.lib.errors import StageError
from stages.lib.stage import field, stage
from stages.papers.covsegnet.settings import Classify, Common


@dataclass
class Config(Common):
    """Command line and parameters of the stage."""

    params: Classify = field(default_factory=Classify)


@stage(Config, paper="covsegnet", section="{dataset}", files={"repeats": "covsegnet/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains two small nets and a linear map on slices of COVID-CT and measures them on the evaluation split.

    Rows `traces_before` and `traces_after` are of a rule that sees a file's format, mode and alpha channel alone, on test.
    """
    from stages.lib import artifacts, data, files, runtime
    from stages.papers.covsegnet import classification

    place = (cfg.scale, cfg.dataset)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    about = artifacts.verify_manifest(data.PREPARED / cfg.dataset / "manifest.json")
    train, tested = (data.load(cfg.dataset, split) for split in ("train", cfg.eval_split))
    told = about.get("told_by_traces", {})
    if set(told) != {"before", "after"}:
        raise StageError(f"{data.PREPARED / cfg.dataset / 'manifest.json'}: lacks told_by_traces; prepare it again")
    path, rows = files.RUNS.joinpath("covsegnet", "metrics", *place, f"{cfg.seed}.json"), []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        found = {f"traces_{when}": {"balanced_accuracy": value} for when, value in sorted(told.items())}
        found["pixels"] = classification.linear(train, tested, cfg.params)
        for name in classification.NETS:
            state = files.scratch(path.with_suffix(""), repetition, name)
            found[name] = classification.learned(name, train, tested, cfg.params, repetition, device, state)
        rows += [row for arm, values in found.items() for row in files.metric_rows(cfg.dataset, arm, repetition, values)]
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
