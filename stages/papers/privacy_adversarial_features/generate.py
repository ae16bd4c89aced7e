"""Stage: the generated set of one matrix seed, a table for each repetition."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.privacy_adversarial_features.settings import Mixture


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium, paper")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    eval_split: str = MISSING
    params: Mixture = field(default_factory=Mixture)


@stage(
    Config, paper="privacy_adversarial_features", section="mixture.data",
    files={"repeats": "privacy_adversarial_features/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Draws samples with an activity u and a subject s that changes its amplitude; fresh codes for each repetition."""
    from stages.lib import files, runtime
    from stages.papers.privacy_adversarial_features import mixture, tables

    runtime.prepare(1, "cpu", cfg.seed)
    folder, made = tables.folder(cfg.scale, "mixture", cfg.seed), []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        x, u, s, train = (part.numpy() for part in mixture.draw(cfg.params, repetition, cfg.eval_split))
        made.append(tables.write(folder / f"{repetition}.npz", x, u, {"subject": s}, train))
    files.seal(folder, made, [], cfg)


if __name__ == "__main__":
    main()
