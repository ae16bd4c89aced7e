"""The publishers' layouts of few-shot sets: which images a part (train, val, test) has, and of which class each is.

- csv, mini-ImageNet: `images/*.jpg`, `<part>.csv` with the header filename,label.
- pickles, tiered-ImageNet: `<part>_images_png.pkl`, a list of encoded images; `<part>_labels.pkl` with label_specific and
  label_specific_str.
- cub, CUB-200-2011: `images.txt`, `image_class_labels.txt` and `images/<class>/*.jpg`; parts by class number.
- folders, CIFAR-FS: `data/<class>/*.png`, `splits/bertinetto/<part>.txt` with a class a line.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from stages.lib.artifacts import read_bytes
from stages.lib.errors import StageError
from stages.prepare import few_shot_pickles
from stages.prepare.images import safe_name

Read = Callable[[], tuple[bytes, object]]  # an image's bytes and what to call it in an error


class Params(Protocol):
    """What a layout needs to know."""

    every: dict[str, list[int]]
    max_bytes: int


@dataclass(frozen=True)
class Found:
    """Images of a part as (class, reader), in the publisher's order; and the files that list them."""

    items: list[tuple[str, Read]]
    lists: list[Path]


def csv_files(root: Path, part: str, params: Params) -> Found:
    """mini-ImageNet. Raises StageError naming the line that is wrong."""
    path = root / f"{part}.csv"
    rows = list(csv.reader(_text(path).splitlines()))
    if not rows or rows[0] != ["filename", "label"]:
        raise StageError(f"{path}: line 1: expected the header filename,label")
    items, seen = [], set()
    for number, row in enumerate(rows[1:], 2):
        where = f"{path}: line {number}"
        if len(row) != 2 or not row[1]:
            raise StageError(f"{where}: expected a file name and a label")
        name = safe_name(row[0], where)
        if name in seen:
            raise StageError(f"{where}: {name} a second time; an image has one class")
        seen.add(name)
        items.append((row[1], partial(_file, root / "images" / name, params.max_bytes)))
    return Found(_some(items, path), [path])


def pickled(root: Path, part: str, params: Params) -> Found:
    """tiered-ImageNet. Raises StageError where images and labels do not belong together."""
    path, labels = root / f"{part}_images_png.pkl", root / f"{part}_labels.pkl"
    images = few_shot_pickles.images(read_bytes(path), path, params.max_bytes)
    names = few_shot_pickles.classes(read_bytes(labels), labels)
    if len(images) != len(names):
        raise StageError(f"{labels}: {len(names)} labels for {len(images)} images; the files do not belong together")
    items = [
        (name, partial(_held, image, f"{path}: image {row}"))
        for row, (name, image) in enumerate(zip(names, images, strict=True))
    ]
    return Found(_some(items, path), [path, labels])


def cub(root: Path, part: str, params: Params) -> Found:
    """CUB-200-2011; a part is every so manieth class. Raises StageError naming the line that is wrong."""
    paths, labels = (root / name for name in ("images.txt", "image_class_labels.txt"))
    names, numbers = _pairs(paths), _pairs(labels)
    if names.keys() != numbers.keys():
        odd = sorted(names.keys() ^ numbers.keys())[0]
        raise StageError(f"{labels}: image {odd} is not in both this file and images.txt; fetch them again")
    first, step = params.every[part]
    items = []
    for key, name in names.items():
        folder, _, file = name.partition("/")
        where = f"{paths}: image {key}"
        safe_name(folder, where), safe_name(file, where)
        if not numbers[key].isdigit() or not folder.startswith(f"{int(numbers[key]):03d}."):
            raise StageError(f"{labels}: image {key}: class {numbers[key]}, but its folder is {folder}; fetch the file again")
        number = int(numbers[key])
        if number >= first and (number - first) % step == 0:
            items.append((folder, partial(_file, root / "images" / name, params.max_bytes)))
    return Found(_some(items, paths), [paths, labels])


def folders(root: Path, part: str, params: Params) -> Found:
    """CIFAR-FS. Raises StageError for a class without a folder or images."""
    path = root / "splits" / "bertinetto" / f"{part}.txt"
    items = []
    for name in _text(path).split():
        folder = root / "data" / safe_name(name, str(path))
        files = sorted(folder.glob("*.png"))
        if not files:
            raise StageError(f"{folder}: no image (.png), though {path.name} lists the class; fetch the set again")
        items += [(name, partial(_file, file, params.max_bytes)) for file in files]
    return Found(_some(items, path), [path])


READERS: dict[str, Callable[[Path, str, Params], Found]] = {
    "csv": csv_files,
    "pickles": pickled,
    "cub": cub,
    "folders": folders,
}


def _text(path: Path) -> str:
    return read_bytes(path).decode("utf-8", "replace")


def _some(items: list[tuple[str, Read]], path: Path) -> list[tuple[str, Read]]:
    if not items:
        raise StageError(f"{path}: lists no image of this part; fetch the file again")
    return items


def _pairs(path: Path) -> dict[str, str]:
    """Lines `key value` of CUB's lists."""
    found: dict[str, str] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        key, _, value = line.strip().partition(" ")
        if not value or key in found:
            raise StageError(f"{path}: line {number}: expected a new image number and a value")
        found[key] = value
    return found


def _held(content: bytes, where: str) -> tuple[bytes, object]:
    return content, where


def _file(path: Path, most: int) -> tuple[bytes, object]:
    """A file's bytes. Raises StageError if it is absent or larger than `most`."""
    if not path.is_file():
        raise StageError(f"{path}: not found, though it is listed; fetch the set again")
    if path.stat().st_size > most:
        raise StageError(f"{path}: {path.stat().st_size} bytes; at most {most} (max_bytes) are read")
    return read_bytes(path), path
