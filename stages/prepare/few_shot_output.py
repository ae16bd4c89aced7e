"""Writing a set that is split by classes: base, validation and novel classes as train, val and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib import artifacts
from stages.lib.data import PREPARED, SPLITS, channel_statistics, check
from stages.lib.episodes import check_classes
from stages.lib.errors import StageError

Images = tuple[numpy.ndarray, numpy.ndarray]  # x uint8 [N, C, H, W], y int64 [N]: places in the split's own classes


def write_class_splits(
    dataset: str,
    parts: Mapping[str, Images],
    classes: Mapping[str, Sequence[str]],
    *,
    limit: Mapping[str, int | None],
    inputs: Sequence[Path],
    config: Any,
    about: Mapping[str, Any],
) -> None:
    """Write runs/prepare/<dataset>/{train,val,test}.npz and manifest.json. Raises StageError for bad parts.

    `limit` keeps the first so many images of every class of a split; moments are those of the base classes.
    """
    folder = PREPARED / dataset
    check_classes(classes, f"{dataset}: classes")
    limited = {name: first(*parts[name], limit.get(name), f"limit.{name}") for name in SPLITS}
    for name, (x, y) in limited.items():
        check(x, y, len(classes[name]), f"{dataset} {name}")
    mean, std = channel_statistics(limited["train"][0])
    if not all(std):
        raise StageError(f"{dataset} train: a channel is constant (std {std}); look for damaged images")
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    for name, (x, y) in limited.items():
        artifacts.write_npz(folder / f"{name}.npz", x=x, y=y)
        print(f"{dataset}: {name} {len(classes[name])} classes, {len(y)} images {list(x.shape[1:])}", flush=True)
    artifacts.write_manifest(
        folder / "manifest.json",
        outputs=[folder / f"{name}.npz" for name in SPLITS],
        inputs=inputs,
        config=config,
        dataset=dataset,
        classes=[name for split in SPLITS for name in classes[split]],
        class_split={name: list(classes[name]) for name in SPLITS},
        mean=mean,
        std=std,
        shape=list(limited["train"][0].shape[1:]),
        counts={name: len(y) for name, (_, y) in limited.items()},
        **about,
    )


def first(x: numpy.ndarray, y: numpy.ndarray, count: int | None, where: str) -> Images:
    """The first `count` images of every class, in order of the classes; all of them for None."""
    if count is not None and count < 1:
        raise StageError(f"{where}={count}: expected at least 1, or null for all")
    index = numpy.concatenate([numpy.flatnonzero(y == label)[:count] for label in numpy.unique(y)])
    return x[index], y[index]


def sizes(classes: Mapping[str, Sequence[str]]) -> str:
    """The numbers of classes in words."""
    return "{train} base, {val} validation and {test} novel classes".format(
        **{key: len(value) for key, value in classes.items()}
    )
