"""Writing a set that is split by classes: base, validation and novel classes as train, val and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib.data import SPLITS
from stages.lib.episodes import check_classes
from stages.lib.errors import StageError
from stages.prepare.splits import Images, write_parts


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

    Labels are places in the split's own classes. `limit` keeps the first so many images of every class of a split; moments
    are those of the base classes.
    """
    check_classes(classes, f"{dataset}: classes")
    limited = {name: first(*parts[name], limit.get(name), f"limit.{name}") for name in SPLITS}
    write_parts(
        dataset,
        limited,
        {name: len(classes[name]) for name in SPLITS},
        inputs=inputs,
        config=config,
        classes=[name for split in SPLITS for name in classes[split]],
        class_split={name: list(classes[name]) for name in SPLITS},
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
