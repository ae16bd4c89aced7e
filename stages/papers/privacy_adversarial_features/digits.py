"""Stage: digits as a table: the digit modulo 5 is of use, whether it is 5 or more is secret."""

from dataclasses import dataclass

from stages.lib.checks import above, share
from stages.lib.stage import MISSING, field, stage

HALF = 5


@dataclass
class Digits:
    """The section `digits.data`."""

    share: float = field(help="share of the training images that a repetition takes, drawn for it")

    def check(self) -> None:
        """StageError for a share out of range."""
        above("share", self.share)
        share("share", self.share)


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    eval_split: str = MISSING
    params: Digits = field(default_factory=Digits)


@stage(
    Config, paper="privacy_adversarial_features", section="digits.data",
    files={"repeats": "privacy_adversarial_features/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Writes pixels, u = y mod 5 and s = (y >= 5) of each repetition's training images and of those to measure on."""
    import numpy

    from stages.lib import data, files, runtime
    from stages.papers.privacy_adversarial_features import tables

    runtime.prepare(1, "cpu", cfg.seed)
    train, measured = data.load("digits", "train"), data.load("digits", cfg.eval_split)
    y = train.y.numpy()
    folder, made = tables.folder(cfg.scale, "digits", cfg.seed), []
    count = max(1, round(cfg.params.share * len(y)))
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        index = tables.thinned(y, numpy.arange(len(y)), count, repetition)
        x = numpy.concatenate((train.x.flatten(1).numpy()[index], measured.x.flatten(1).numpy()))
        labels = numpy.concatenate((y[index], measured.y.numpy()))
        early = numpy.arange(len(labels)) < len(index)
        made.append(tables.write(folder / f"{repetition}.npz", x, labels % HALF, {"upper": labels >= HALF}, early))
    read = [data.PREPARED / "digits" / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, made, read, cfg)


if __name__ == "__main__":
    main()
