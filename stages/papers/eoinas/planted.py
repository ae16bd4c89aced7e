"""Stage: whether a candidate that carries nothing is given up at once."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.eoinas.settings import Images, PlantedParams, SearchParams, SpaceParams

SECTIONS = ("images", "space", "search", "planted")
ARMS = ("eoinas", "alpha_pruning")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="the data set to search on")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    images: Images = field(default_factory=Images)
    space: SpaceParams = field(default_factory=SpaceParams)
    search: SearchParams = field(default_factory=SearchParams)
    planted: PlantedParams = field(default_factory=PlantedParams)


@stage(Config, files={"repeats": "eoinas/{scale}:repeats", **{key: f"eoinas/{{scale}}:{{dataset}}.{key}" for key in SECTIONS}})
def main(cfg: Config) -> None:
    """Searches with noise in the place of one operation, up to a few drops; writes on what share of the edges it is left.

    The arm `random` is the share that drops by chance would leave.
    """
    cfg.search.check()
    cfg.space.check()
    cfg.search.fits(cfg.space)
    cfg.planted.check()
    if cfg.planted.drops > len(cfg.search.prune):
        raise StageError(f"planted.drops={cfg.planted.drops}: expected at most {len(cfg.search.prune)}, as many as there are")
    from stages.lib import artifacts, files, runtime
    from stages.papers.eoinas import images
    from stages.papers.eoinas.arms import searcher
    from stages.papers.eoinas.noise import NOISE
    from stages.papers.eoinas.searching import Search, planted, space_of

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    train, held_out = images.halves(images.load(cfg.dataset, "train", cfg.images))
    space = planted(space_of(train, cfg.space), cfg.planted.replaced, NOISE)
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        left = {"random": 1.0 - cfg.planted.drops / len(space.operations)}
        for arm in ARMS:
            search = Search(space, cfg.search, searcher(arm), repetition, device)
            for last in cfg.search.prune[: cfg.planted.drops]:
                while search.epoch < last:
                    search.run_epoch(train, held_out)
                search.prune()
            edges = [edge for cell in search.net.kept.values() for edge in cell]
            left[arm] = sum(NOISE in edge for edge in edges) / len(edges)
        for arm, share in left.items():
            rows += files.metric_rows("planted", arm, repetition, {"noise_left": share})
        print(f"planted {repetition}: " + ", ".join(f"{arm} {share:.2f}" for arm, share in left.items()), flush=True)
    path = files.RUNS / "eoinas" / "metrics" / cfg.scale / "planted" / f"{cfg.seed}.json"
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
