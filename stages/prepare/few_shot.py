"""A prepared set (cifar100, mnist, tiny_imagenet) divided anew by classes: base, validation and novel ones.

    python stages/prepare/few_shot.py dataset=cifar_fs

Whether images are the publisher's or the embedded sample follows from the prepared set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stages.lib.errors import StageError
from stages.lib.stage import field as parameter
from stages.lib.stage import stage

if TYPE_CHECKING:
    import numpy

ALL = ("train", "val", "test")


@dataclass
class Params:
    """params/dataset/<dataset>.yaml."""

    of: str = parameter(help="the prepared set whose images are divided")
    classes: dict[str, dict[str, list[str]]] = parameter(help="by source: classes of train (base), val and test (novel)")
    shares: dict[str, float] = parameter(
        help="shares of train and val for a source without lists, in the set's order of classes"
    )
    limit: dict[str, int | None] = parameter(help="at most so many images of each class of train, val, test; null for all")

    def check(self) -> None:
        """Ranges that types do not tell."""
        if set(self.shares) != {"train", "val"} or min(self.shares.values()) <= 0 or sum(self.shares.values()) >= 1:
            raise StageError(f"params.shares={dict(self.shares)}: expected shares of train and val above 0, together below 1")


@dataclass
class Config:
    """What the stage needs."""

    dataset: str = parameter(help="a few-shot set, as its file in params/dataset")
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/{dataset}"})
def main(cfg: Config) -> None:
    """Pool all images of runs/prepare/<of>, divide them by class and write runs/prepare/<dataset>/{train,val,test}.npz."""
    from stages.lib import artifacts
    from stages.lib.data import PREPARED
    from stages.prepare.few_shot_output import sizes, write_class_splits

    source = PREPARED / cfg.params.of
    about = artifacts.verify_manifest(source / "manifest.json")
    for key in ("classes", "source", "files"):
        if key not in about:
            raise StageError(f"{source / 'manifest.json'}: lacks the key {key}; run the prepare stage of {cfg.params.of} again")
    classes, how = divide(about["classes"], about["source"], cfg.params)
    x, y = pooled(source)
    parts = {name: members(x, y, [about["classes"].index(item) for item in classes[name]]) for name in ALL}
    write_class_splits(
        cfg.dataset,
        parts,
        classes,
        limit=cfg.params.limit,
        inputs=[source / "manifest.json", *(source / f"{name}.npz" for name in ALL)],
        config=cfg,
        about={"source": about["source"], "files": about["files"], "of": cfg.params.of, "split": f"{sizes(classes)}; {how}"},
    )


def divide(names: list[str], source: str, params: Params) -> tuple[dict[str, list[str]], str]:
    """(classes of train, val and test, how they were found). StageError for a class that the set lacks."""
    from stages.lib.episodes import check_classes

    if source in params.classes:
        found, how = {key: list(value) for key, value in params.classes[source].items()}, "as listed"
    else:
        edges = [0, *(round(len(names) * share) for share in (params.shares["train"], sum(params.shares.values()))), len(names)]
        found = {name: names[start:stop] for name, (start, stop) in zip(ALL, pairwise(edges), strict=True)}
        how = "in the set's order of classes"
    check_classes(found, f"params.classes.{source}")
    lost = sorted({item for part in found.values() for item in part} - set(names))
    if lost:
        raise StageError(f"params.classes.{source}: {params.of} has no class {lost[0]}; it has {', '.join(names[:5])}, ...")
    return found, how


def pooled(source: Any) -> tuple[numpy.ndarray, numpy.ndarray]:
    """All images and labels of a prepared set, train first."""
    import numpy

    from stages.lib.artifacts import read_npz

    parts = [read_npz(source / f"{name}.npz", "x", "y") for name in ALL]
    return numpy.concatenate([x for x, _ in parts]), numpy.concatenate([y for _, y in parts])


def members(x: numpy.ndarray, y: numpy.ndarray, wanted: list[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The images of some classes, class by class, with their places in the list as labels."""
    import numpy

    index = [numpy.flatnonzero(y == label) for label in wanted]
    labels = numpy.repeat(numpy.arange(len(wanted)), [len(part) for part in index])
    return x[numpy.concatenate(index)], labels


if __name__ == "__main__":
    main()
