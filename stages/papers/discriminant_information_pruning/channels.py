"""Stage: which channels of a generated linear-Gaussian problem each score keeps."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.discriminant_information_pruning.train import SLUG


@dataclass
class ChannelParams:
    draws: int = field(help="problems of a repetition, over which its metrics are means")
    informative: int = field(help="channels whose mean follows the class; as many are kept")
    copies: int = field(help="copies of the first of them")
    noise: int = field(help="channels without information")
    pixels: int = field(help="numbers in a channel")
    classes: int = field(help="classes")
    examples: int = field(help="examples that scores see")
    test_examples: int = field(help="examples of a second draw, on which the ridge classifier is judged")
    shift: float = field(help="standard deviation of the class means; the noise around them has 1")
    copy_noise: float = field(help="standard deviation of what a copy adds")
    loudness: float = field(help="standard deviation of the channels without information")
    ridge: str = field(help="relative: rho times tr(K) / B; absolute: rho as it is")
    rho: float = field(help="the ridge")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    params: ChannelParams = field(default_factory=ChannelParams)


@stage(Config, paper=SLUG, section="channels", files={"repeats": f"{SLUG}/{{scale}}:repeats"})
def main(cfg: Config) -> None:
    """Keeps as many channels as are informative by each score; writes recall, DI kept and a ridge classifier's accuracy."""
    from stages.lib import artifacts, files, runtime
    from stages.papers.discriminant_information_pruning.recall import recalls

    runtime.prepare(cfg.threads, "cpu", cfg.seed)  # too small for anything else
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for arm, values in recalls(cfg.params, repetition).items():
            rows += files.metric_rows("channels", arm, repetition, values)
            print(f"channels {repetition} {arm}: recall {values['channel_recall']:.3f}", flush=True)
    path = files.RUNS / SLUG / "metrics" / cfg.scale / "channels" / f"{cfg.seed}.json"
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
