"""Writing prepared splits: limits, checks, statistics, one npz a split, the manifest last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib import artifacts
from stages.lib.data import PREPARED, SPLITS, channel_statistics, check, stratified
from stages.lib.errors import StageError

Images = tuple[numpy.ndarray, numpy.ndarray]  # x uint8 [N, C, H, W], y int64 [N]


def write_splits(
    dataset: str,
    parts: Mapping[str, Images],
    *,
    limit: Mapping[str, int | None],
    seed: int,
    classes: Sequence[str],
    inputs: Sequence[Path],
    config: Any,
    about: Mapping[str, Any],
) -> None:
    """Write runs/prepare/<dataset>/{train,val,test}.npz and manifest.json. Raises StageError for bad parts.

    `limit` keeps at most so many images of a split, classes in proportion; `about` goes into the manifest.
    """
    limited = {name: _limited(parts[name], limit.get(name), seed, name) for name in SPLITS}
    kinds = dict.fromkeys(SPLITS, len(classes))
    write_parts(dataset, limited, kinds, classes=list(classes), inputs=inputs, config=config, **about)


def write_parts(
    dataset: str,
    parts: Mapping[str, Images],
    kinds: Mapping[str, int],
    *,
    inputs: Sequence[Path],
    config: Any,
    **about: Any,
) -> None:
    """Check parts, each with labels below its number of `kinds`, and write them with the moments of the training part.

    `about` goes into the manifest. Raises StageError for bad parts.
    """
    folder = PREPARED / dataset
    for name, (x, y) in parts.items():
        check(x, y, kinds[name], f"{dataset} {name}")
    mean, std = channel_statistics(parts["train"][0])
    if not all(std):
        raise StageError(f"{dataset} train: a channel is constant (std {std}); look for damaged images")
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    for name, (x, y) in parts.items():
        artifacts.write_npz(folder / f"{name}.npz", x=x, y=y)
        print(f"{dataset}: {name} {len(y)} images {list(x.shape[1:])}, {kinds[name]} classes", flush=True)
    artifacts.write_manifest(
        folder / "manifest.json",
        outputs=[folder / f"{name}.npz" for name in SPLITS],
        inputs=inputs,
        config=config,
        dataset=dataset,
        mean=mean,
        std=std,
        shape=list(parts["train"][0].shape[1:]),
        counts={name: len(y) for name, (_, y) in parts.items()},
        **about,
    )


def _limited(part: Images, limit: int | None, seed: int, name: str) -> Images:
    x, y = part
    if limit is None or limit >= len(y):
        return part
    if limit < 1:
        raise StageError(f"limit.{name}={limit}: expected at least 1, or null for all")
    index = stratified(y, {name: limit}, seed)[name]
    return x[index], y[index]


def divide(part: Images, counts: dict[str, int], seed: int) -> dict[str, Images]:
    """Disjoint stratified parts of the given sizes."""
    x, y = part
    return {name: (x[index], y[index]) for name, index in stratified(y, counts, seed).items()}
