"""Stage: sensor windows as a table: the activity is of use, who moves (or of which gender) is secret."""

from dataclasses import dataclass

from stages.lib.checks import above, at_least, share
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.privacy_adversarial_features.settings import Recordings


@dataclass
class Motion(Recordings):
    """The section `motionsense.data`."""

    taken: float = field(help="share of the windows to train on that a repetition takes, drawn for it")
    most: int | None = field(help="at most so many windows to train on, and as many to measure on; null for all")

    def check(self) -> None:
        """StageError for a value out of range."""
        super().check()
        above("taken", self.taken)
        share("taken", self.taken)
        if self.most is not None:
            at_least("most", self.most, 1)


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    dataset: str = field(help="a prepared set of sensor windows")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    eval_split: str = MISSING
    params: Motion = field(default_factory=Motion)


@stage(
    Config, paper="privacy_adversarial_features", section="{dataset}.data",
    files={"repeats": "privacy_adversarial_features/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Writes features of windows, activities and secrets. With eval_split=val the windows of the test part are not read."""
    if cfg.eval_split not in ("val", "test"):
        raise StageError(f"eval_split={cfg.eval_split}: expected val or test")
    import numpy

    from stages.lib import data, files, runtime
    from stages.lib.sensors import windows
    from stages.papers.privacy_adversarial_features import recordings, tables

    runtime.prepare(1, "cpu", cfg.seed)
    found = windows.load(cfg.dataset)
    x, secrets = recordings.features(found, cfg.params), {}
    for name in cfg.params.secrets:
        secrets[name] = recordings.secret(found, name)
    early, late = recordings.divide(found, cfg.params.share, cfg.eval_split == "val")
    folder, made = tables.folder(cfg.scale, cfg.dataset, cfg.seed), []
    # Classes of subject and activity together, so that a repetition lacks none of them.
    groups = numpy.unique(numpy.stack((found.subject, found.y), 1), axis=0, return_inverse=True)[1].reshape(-1)
    count = max(1, round(cfg.params.taken * len(early)))
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        own = tables.thinned(groups, early, min(count, cfg.params.most or count), repetition)
        measured = tables.thinned(groups, late, min(len(late), cfg.params.most or len(late)), repetition)
        index = numpy.concatenate((own, measured))
        first = numpy.arange(len(index)) < len(own)
        some = {name: values[index] for name, values in secrets.items()}
        made.append(tables.write(folder / f"{repetition}.npz", x[index], found.y[index], some, first))
    read = [data.PREPARED / cfg.dataset / name for name in ("windows.npz", "manifest.json")]
    files.seal(folder, made, read, cfg)


if __name__ == "__main__":
    main()
