"""Prepared sets of photographs: runs/prepare/<dataset>/index.csv and one array of pixels a split.

`<split>.npy` holds the pixels of all its images in one row, uint8, so that a set larger than the memory can be mapped.
A row of index.csv says where an image lies in it, what it shows and what was done to it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from stages.lib import artifacts
from stages.lib.data import PREPARED, SPLITS
from stages.lib.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("split", "group", "name", "kind", "height", "width", "offset")
CLEAN, RAINY, STREAKS = "clean", "rainy", "streaks"  # kinds of images; low-resolution ones are x2, x3 and x4


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A named image, uint8 [H, W, 3]; read-only, mapped from its file."""

    name: str
    pixels: numpy.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A corrupted photograph uint8 [h, w, 3] and the clean one [h factor, w factor, 3]."""

    name: str
    corrupted: numpy.ndarray
    clean: numpy.ndarray

    @property
    def factor(self) -> int:
        """The scale between them, 1 where the corruption keeps the size."""
        return self.clean.shape[0] // self.corrupted.shape[0]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A verified split of a prepared set."""

    name: str  # <folder>/<split>, for messages
    rows: list[dict[str, str]]
    store: numpy.ndarray

    @property
    def groups(self) -> list[str]:
        """The test sets in it, sorted, e.g. Set5; train and val are one group."""
        return sorted({row["group"] for row in self.rows})

    def kinds(self, group: str | None = None) -> set[str]:
        """What there is of the split or of one of its groups: clean, x2, ..."""
        return {row["kind"] for row in self.rows if group in (None, row["group"])}

    def photographs(self, kind: str = CLEAN, group: str | None = None) -> list[Photograph]:
        """The images of one kind (of one group, or all), in the order of groups and names. Raises StageError for none."""
        rows = [row for row in self.rows if row["kind"] == kind and group in (None, row["group"])]
        if not rows:
            of = f" of {group}" if group else ""
            raise StageError(f"{self.name}: no {kind} image{of}; put some into data/ and run its prepare stage again")
        return [Photograph(row["name"], _cut(self.store, row, self.name)) for row in rows]

    def scaled_pairs(self, factor: int, group: str | None = None) -> list[Pair]:
        """Low- and high-resolution photographs, the latter cropped to multiples of the factor.

        The publisher's low-resolution images are taken where a group has some, otherwise they are made.
        """
        chosen = self.groups if group is None else [group]
        return [pair for name in chosen for pair in self._scaled_group(factor, name)]

    def _scaled_group(self, factor: int, group: str) -> list[Pair]:
        clean = self.photographs(CLEAN, group)
        if f"x{factor}" not in self.kinds(group):
            return [scaled_pair(image, factor) for image in clean]
        pairs = zip(clean, self.photographs(f"x{factor}", group), strict=True)
        return [
            Pair(image.name, low.pixels, image.pixels[: factor * low.size[0], : factor * low.size[1]]) for image, low in pairs
        ]

    def rainy_pairs(self, group: str | None = None) -> list[Pair]:
        """Rainy and clean photographs."""
        pairs = zip(self.photographs(CLEAN, group), self.photographs(RAINY, group), strict=True)
        return [Pair(clean.name, rainy.pixels, clean.pixels) for clean, rainy in pairs]

    def streaks(self, group: str | None = None) -> list[numpy.ndarray]:
        """Layers of rain, uint8 [H, W]."""
        return [image.pixels[:, :, 0] for image in self.photographs(STREAKS, group)]


def load(dataset: str, split: str, root: str | Path = PREPARED) -> Prepared:
    """A split of a prepared set.

    Args:
        dataset: div2k or benchmarks (kinds clean, x2, x3, x4), or rain (clean, rainy, streaks).
        split: train, val or test; benchmarks has test only.
        root: The folder of prepared sets.

    Raises:
        StageError: The split's files are absent, damaged or not those of the manifest.
    """
    if split not in SPLITS:
        raise StageError(f"split={split}: expected one of {', '.join(SPLITS)}")
    folder = Path(root) / dataset
    about = artifacts.read_json(folder / "manifest.json")
    outputs = about.get("outputs") if isinstance(about, dict) else None
    if not isinstance(outputs, dict):
        raise StageError(f"{folder / 'manifest.json'}: not a manifest; run the prepare stage of {dataset} again")
    for name in ("index.csv", f"{split}.npy"):
        if artifacts.sha256(folder / name) != outputs.get(name):
            raise StageError(f"{folder / name}: differs from its manifest; run the prepare stage of {dataset} again")
    table = csv.DictReader(io.StringIO(artifacts.read_bytes(folder / "index.csv").decode(), newline=""))
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise StageError(f"{folder / 'index.csv'}: other columns than expected; run the prepare stage of {dataset} again")
    rows = [row for row in table if row["split"] == split]
    return Prepared(f"{folder.as_posix()}/{split}", rows, _store(folder / f"{split}.npy"))


def photographs(dataset: str, split: str, root: str | Path = PREPARED) -> list[Photograph]:
    """The clean photographs of a split. Raises StageError as `load` does, and for a split without images."""
    return load(dataset, split, root).photographs()


def scaled_pair(image: Photograph, factor: int) -> Pair:
    """A photograph cropped to multiples of the factor, and its bicubic reduction."""
    import torch

    from stages.lib.restoration.degrade import crop_to_multiple, downscale

    clean = crop_to_multiple(torch.from_numpy(image.pixels.copy()).permute(2, 0, 1), factor)
    low = downscale(clean, factor).permute(1, 2, 0).contiguous().numpy()
    return Pair(image.name, low, numpy.ascontiguousarray(clean.permute(1, 2, 0).numpy()))


def tensor(pixels: numpy.ndarray) -> Tensor:
    """uint8 [H, W, 3] to float32 [3, H, W] in 0..255."""
    import torch

    return torch.from_numpy(numpy.ascontiguousarray(pixels.transpose(2, 0, 1))).float()


def pixels(image: Tensor) -> numpy.ndarray:
    """[3, H, W] in 0..255 to uint8 [H, W, 3], clipped and rounded."""
    import torch

    from stages.lib.restoration.degrade import to_8bit

    return to_8bit(image.detach().cpu()).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _store(path: Path) -> numpy.ndarray:
    try:
        return numpy.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StageError(f"{path}: no intact array of pixels; run its prepare stage again") from error


def _cut(store: numpy.ndarray, row: dict[str, str], name: str) -> numpy.ndarray:
    height, width, offset = (int(row[key]) for key in ("height", "width", "offset"))
    flat = store[offset : offset + height * width * 3]
    if store.dtype != numpy.uint8 or len(flat) != height * width * 3:
        raise StageError(f"{name}: lacks pixels of {row['name']}; run its prepare stage again")
    return flat.reshape(height, width, 3)
