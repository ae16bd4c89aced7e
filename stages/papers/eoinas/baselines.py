"""Stage: genotypes that no gradient has searched, beside EoiNAS's of the same seed."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.eoinas.settings import Images, NetParams, RandomParams, SpaceParams, TrainParams

SECTIONS = ("images", "space", "net", "train", "random")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    images: Images = field(default_factory=Images)
    space: SpaceParams = field(default_factory=SpaceParams)
    net: NetParams = field(default_factory=NetParams)
    train: TrainParams = field(default_factory=TrainParams)
    random: RandomParams = field(default_factory=RandomParams)


@stage(Config, files={"repeats": "eoinas/{scale}:repeats", **{key: f"eoinas/{{scale}}:{{dataset}}.{key}" for key in SECTIONS}})
def main(cfg: Config) -> None:
    """Draws a random genotype, searches at random for as many multiply-adds as EoiNAS's search of the same repetition
    spent, and gives printed genotypes the width at which they cost what EoiNAS's net costs.
    """
    cfg.space.check()
    cfg.random.check()
    cfg.train.check()
    import torch

    from stages.lib import data, files, macs, runtime
    from stages.lib.darts import published
    from stages.papers.eoinas import found, images, nets, random_search
    from stages.papers.eoinas.arms import BASELINES, PRINTED

    places = {arm: found.folder(cfg.scale, cfg.dataset, arm, cfg.seed) for arm in ("eoinas", *BASELINES)}
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    own = found.load(places["eoinas"], files.repetitions(cfg.seed, cfg.repeats))
    halves = images.halves(images.load(cfg.dataset, "train", cfg.images))
    entries: dict[str, list[dict]] = {arm: [] for arm in BASELINES}
    for item in own:
        repetition, target = item["seed"], macs.total(nets.record(item["genotype"], cfg.net, halves[0])).macs
        generator = torch.Generator().manual_seed(runtime.derive_seed(repetition, "random"))
        entries["random"].append(found.entry(repetition, random_search.draw(cfg.space, generator), 0))
        best, spent, draws = random_search.best(
            cfg.space, cfg.net, cfg.train, cfg.random, halves, item["spent"], repetition, device,
            files.scratch(places["random_best"], repetition, "random"),
        )  # fmt: skip
        print(f"random search {repetition}: {len(draws)} draws, {spent} MACs (EoiNAS {item['spent']})", flush=True)
        entries["random_best"].append(found.entry(repetition, best, spent, draws=draws))
        for arm in PRINTED:
            width = nets.width_for(published(arm), cfg.net, halves[0], target)
            entries[arm].append(found.entry(repetition, published(arm), 0, width))
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    for arm in BASELINES:
        found.write(places[arm], arm, entries[arm], cfg, [*read, places["eoinas"] / "search.json"])


if __name__ == "__main__":
    main()
