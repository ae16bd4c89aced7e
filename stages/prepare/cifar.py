"""What the batch files of CIFAR-10 and CIFAR-100 have in common: planes of pixels, lists of labels and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy

from stages.lib.errors import StageError
from stages.prepare import pickles


def read_names(content: bytes, path: Path, key: str) -> list[str]:
    """The class names of a meta file. Raises StageError."""
    names = pickles.loads(content, path).get(key)
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, (bytes, str)) for name in names):
        raise StageError(f"{path}: {key} is {type(names).__name__}; expected a list of class names")
    return [name.decode("latin1") if isinstance(name, bytes) else name for name in names]


def read_images(batch: dict[str, Any], path: Path, shape: list[int]) -> numpy.ndarray:
    """Pixels uint8 [N, C, H, W] of a batch; its file names, where there are any, are counted. Raises StageError."""
    data = batch.get("data")
    pixels = shape[0] * shape[1] * shape[2]
    if not isinstance(data, numpy.ndarray) or data.ndim != 2 or data.dtype != numpy.uint8 or data.shape[1] != pixels:
        found = f"{data.dtype} {list(data.shape)}" if isinstance(data, numpy.ndarray) else type(data).__name__
        raise StageError(f"{path}: data is {found}; expected uint8 [N, {pixels}]")
    filenames = batch.get("filenames")
    if filenames is not None and (not isinstance(filenames, list) or len(filenames) != len(data)):
        raise StageError(f"{path}: filenames do not match its {len(data)} images; the file is damaged, fetch it again")
    return data.reshape(-1, *shape)


def read_labels(batch: dict[str, Any], path: Path, key: str, images: int, classes: int) -> numpy.ndarray:
    """Labels int64 [images], 0 to classes - 1. Raises StageError."""
    labels = batch.get(key)
    if not isinstance(labels, list) or len(labels) != images:
        found = str(len(labels)) if isinstance(labels, list) else "no"
        raise StageError(f"{path}: {found} {key} for {images} images; the file is damaged, fetch it again")
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            raise StageError(f"{path}: label {label!r} of image {row} in {key}; expected 0 to {classes - 1}")
    return numpy.array(labels, dtype=numpy.int64)
