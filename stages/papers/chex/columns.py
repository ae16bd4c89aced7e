"""Stage: what leverage scores, L1 norms and chance keep of filter banks with redundant filters."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, StageError, field, stage


@dataclass
class ColumnParams:
    inputs: int = field(help="d, entries of a filter")
    channels: int = field(help="C, filters of the layer")
    redundant: int = field(help="filters that are mixed from a few directions")
    directions: int = field(help="how many directions those span")
    loudness: float = field(help="their length relative to the other filters")
    noise: float = field(help="s.d. of the noise on every filter")
    kept: int = field(help="filters to keep")

    def check(self) -> None:
        """StageError for a bank that cannot be made."""
        if not 1 <= self.directions <= self.redundant < self.channels:
            raise StageError(f"params.redundant={self.redundant}: expected from directions={self.directions} to channels - 1")
        if not 1 <= self.kept <= min(self.channels, self.inputs):
            raise StageError(f"params.kept={self.kept}: expected from 1 to min(channels={self.channels}, inputs={self.inputs})")
        if not (0.0 <= self.noise < float("inf") and 0.0 < self.loudness < float("inf")):
            raise StageError(f"params.noise={self.noise} loudness={self.loudness}: expected finite, loudness above 0")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    params: ColumnParams = field(default_factory=ColumnParams)


@stage(Config, paper="chex", section="columns", files={"repeats": "chex/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Keeps filters of generated banks by each score and writes how much of the bank they cannot express."""
    from stages.lib import artifacts, files, runtime
    from stages.papers.chex.banks import residual_shares

    runtime.prepare(cfg.threads, "cpu", cfg.seed)  # too small for anything else
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        found = residual_shares(cfg.params, repetition)
        rows += [
            row for arm, value in found.items() for row in files.metric_rows("columns", arm, repetition, {"residual": value})
        ]
        print(f"columns {repetition}: " + ", ".join(f"{arm} {value:.3f}" for arm, value in found.items()), flush=True)
    path = files.RUNS / "chex" / "metrics" / cfg.scale / "columns" / f"{cfg.seed}.json"
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
