"""Stage: one way of searching, from a random supernet to a genotype."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.eoinas.settings import Images, SearchParams, SpaceParams

if TYPE_CHECKING:
    import torch

    from stages.lib.data import Split
    from stages.papers.eoinas.searching import Search

SECTIONS = ("images", "space", "search")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    arm: str = field(help="how the supernet is searched, see arms.py")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    images: Images = field(default_factory=Images)
    space: SpaceParams = field(default_factory=SpaceParams)
    search: SearchParams = field(default_factory=SearchParams)


def searched(cfg: Config, train: "Split", held_out: "Split", repetition: int, folder: Path, device: "torch.device") -> "Search":
    """The finished search of one repetition. Its checkpoint is left in the scratch folder, where a retry finds it."""
    from stages.lib import files
    from stages.papers.eoinas import saved
    from stages.papers.eoinas.arms import searcher
    from stages.papers.eoinas.searching import Search, space_of

    search = Search(space_of(train, cfg.space), cfg.search, searcher(cfg.arm), repetition, device)
    keeper = saved.Keeper(files.scratch(folder, repetition, "search"), search, train, held_out.y.tolist())
    keeper.restore(search)
    while search.epoch < cfg.search.epochs:
        search.run_epoch(train, held_out)
        print(f"{cfg.arm} {repetition}: epoch {search.epoch}/{cfg.search.epochs}  loss {search.losses[-1]:.4f}", flush=True)
        if search.searcher.prune and search.epoch in cfg.search.prune:
            if search.epoch == cfg.search.checkpoint:
                saved.save(files.scratch(folder, repetition, "checkpoint"), search)
            search.prune()
        keeper.save(search)
    keeper.remove()
    return search


def checkpointed(cfg: Config, folder: Path) -> list[Path]:
    """Moves the repetitions' checkpoints from the scratch folder to their place."""
    from stages.lib import artifacts, files
    from stages.papers.eoinas.arms import searcher

    moved = []
    if searcher(cfg.arm).prune and cfg.search.checkpoint:
        for repetition in files.repetitions(cfg.seed, cfg.repeats):
            source = files.scratch(folder, repetition, "checkpoint")
            moved.append(files.weights(folder, "checkpoint", repetition, cfg.repeats))
            artifacts.write_bytes(moved[-1], artifacts.read_bytes(source))
            source.unlink(missing_ok=True)
    return moved


@stage(Config, files={"repeats": "eoinas/{scale}:repeats", **{key: f"eoinas/{{scale}}:{{dataset}}.{key}" for key in SECTIONS}})
def main(cfg: Config) -> None:
    """Searches a cell pair on the training split alone, half for weights and half for architecture parameters.

    Writes the genotypes with the record of every drop, the multiply-adds spent, and a checkpoint for the fidelity test.
    """
    from stages.papers.eoinas.arms import searcher

    searcher(cfg.arm)  # before torch is loaded: a wrong name answers at once
    cfg.search.check()
    cfg.space.check()
    cfg.search.fits(cfg.space)
    from stages.lib import data, files, runtime
    from stages.papers.eoinas import found, images

    folder = found.folder(cfg.scale, cfg.dataset, cfg.arm, cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    train, held_out = images.halves(images.load(cfg.dataset, "train", cfg.images))
    entries = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        search = searched(cfg, train, held_out, repetition, folder, device)
        entries.append(found.entry(repetition, search.genotype(), search.spent, events=search.events, losses=search.losses))
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    found.write(folder, cfg.arm, entries, cfg, read, checkpointed(cfg, folder))


if __name__ == "__main__":
    main()
