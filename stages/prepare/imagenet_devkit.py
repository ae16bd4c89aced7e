"""ILSVRC2012's development kit: which classes there are and what the flat validation set shows.

data/meta.mat lists the synsets; its ILSVRC2012_ID (1 to 1000 for the classes, above for their parents) is the label in
data/ILSVRC2012_validation_ground_truth.txt, whose line i belongs to ILSVRC2012_val_<i as eight digits>.JPEG.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from stages.lib.artifacts import read_bytes
from stages.lib.errors import StageError, one_line
from stages.prepare.images import WNID, Item

META = Path("data/meta.mat")
TRUTH = Path("data/ILSVRC2012_validation_ground_truth.txt")
VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
MAX_META = 64 << 20  # bytes; the publisher's is below 1 MB


@dataclasses.dataclass(frozen=True)
class Devkit:
    """The classes by ILSVRC2012_ID, their words and numbers of training images by wnid, the labels of val in order."""

    wnids: dict[int, str]
    words: dict[str, str]
    train: dict[str, int]
    truth: list[int]


def read_devkit(folder: Path) -> Devkit:
    """The classes and validation labels of a development kit. Raises StageError naming the file that is wrong."""
    synsets = _synsets(folder / META)
    leaves = [row for row in synsets if int(row["num_children"]) == 0]
    wnids, words, train = {}, {}, {}
    for row in leaves:
        number, wnid = int(row["ILSVRC2012_ID"]), str(row["WNID"])
        if not WNID.fullmatch(wnid) or wnid in words or number in wnids:
            raise StageError(f"{folder / META}: class {number} is {wnid!r}; expected distinct numbers and wnids (n, 8 digits)")
        wnids[number], words[wnid], train[wnid] = wnid, one_line(row["words"]), int(row["num_train_images"])
    if sorted(wnids) != list(range(1, len(wnids) + 1)):
        raise StageError(f"{folder / META}: ILSVRC2012_ID of its classes are not 1 to {len(wnids)}; fetch it again")
    return Devkit(wnids, words, train, _truth(folder / TRUTH, len(wnids)))


def _synsets(path: Path) -> Any:
    """The structure array `synsets`, flat. loadmat reads data only; it cannot run code."""
    import io

    import numpy
    from scipy.io import loadmat

    content = read_bytes(path)
    if len(content) > MAX_META:
        raise StageError(f"{path}: {len(content)} bytes; expected the publisher's file of less than a megabyte")
    try:
        synsets = numpy.atleast_1d(loadmat(io.BytesIO(content), squeeze_me=True)["synsets"])
        wanted = {"ILSVRC2012_ID", "WNID", "words", "num_children", "num_train_images"}
        missing = wanted - set(synsets.dtype.names or ())
    except Exception as error:  # a damaged file can raise nearly anything from the reader
        raise StageError(f"{path}: not the publisher's meta.mat or cut short ({one_line(error)}); fetch it again") from error
    if missing:
        raise StageError(f"{path}: synsets lacks the field {sorted(missing)[0]}; expected the publisher's meta.mat")
    return synsets


def _truth(path: Path, classes: int) -> list[int]:
    labels = []
    for number, line in enumerate(read_bytes(path).decode("ascii", "replace").splitlines(), 1):
        if not line.strip().isdecimal() or not 1 <= int(line) <= classes:
            raise StageError(f"{path}: line {number}: {line[:40]!r}; expected an ILSVRC2012_ID from 1 to {classes}")
        labels.append(int(line))
    return labels


def flat_items(root: Path, names: list[str], devkit: Devkit) -> list[Item]:
    """Images of a flat val folder with the development kit's classes. Raises StageError for names without a label."""
    items = []
    for name in names:
        match = VAL_NAME.fullmatch(name)
        number = int(match[1]) if match else 0
        if not 1 <= number <= len(devkit.truth):
            wanted = f"ILSVRC2012_val_00000001.JPEG to {len(devkit.truth):08d}, one a line of {TRUTH.name}"
            raise StageError(f"{root / 'val' / name}: no label for this name; expected {wanted}")
        items.append(Item(f"val/{name}", devkit.wnids[devkit.truth[number - 1]], "val"))
    return items
