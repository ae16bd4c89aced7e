"""Prepared splits: loading with checks, seeded augmentation, stratified division."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stages.lib import artifacts
from stages.lib.errors import StageError

if TYPE_CHECKING:
    import numpy
    import torch

    from stages.lib.shards import ShardedImages

PREPARED = Path("runs/prepare")
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """Images normalised by the train split's mean and deviation, and what they are.

    x: float32 [N, C, H, W], in memory or in shards; y: int64 [N] in 0..len(classes)-1; mean, std: per channel, of pixels
    in [0, 1].
    """

    x: torch.Tensor | ShardedImages
    y: torch.Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    name: str = ""

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device | str) -> Split:
        """The same split with its tensors on a device."""
        return dataclasses.replace(self, x=self.x.to(device), y=self.y.to(device))

    def take(self, index: torch.Tensor | slice) -> Split:
        """The examples of an index, in its order; what is in shards stays there."""
        x = self.x.subset(index) if hasattr(self.x, "subset") else self.x[index]
        return dataclasses.replace(self, x=x, y=self.y[index])


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A split as its file has it; what is taken of it is normalised, so that a small part of a large set costs little.

    x: uint8 [N, C, H, W]; y: int64 [N]; the rest as in Split.
    """

    x: torch.Tensor
    y: torch.Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    name: str

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device | str) -> Pixels:
        """The same split with its tensors on a device."""
        return dataclasses.replace(self, x=self.x.to(device), y=self.y.to(device))

    def take(self, index: torch.Tensor | slice) -> Split:
        """The examples of an index, in its order, normalised."""
        images = normalised(self.x[index], self.mean, self.std)
        return Split(images, self.y[index], self.classes, self.mean, self.std, self.source, self.name)


AnySplit: TypeAlias = Split | Pixels  # what examples can be taken of


def load(dataset: str, split: str, root: str | Path = PREPARED) -> Split:
    """All of a split, normalised; see `pixels`."""
    return pixels(dataset, split, root).take(slice(None))


def pixels(dataset: str, split: str, root: str | Path = PREPARED) -> AnySplit:
    """Read runs/prepare/<dataset>/<split>.npz, or open the shards of <dataset>_shards/ where there is no such file.

    Raises StageError if it is absent, altered or out of range. Of shards the index is hashed, and sizes are compared:
    reading all of them would take an hour at every start.
    """
    import torch

    if split not in SPLITS:
        raise StageError(f"split={split}: expected one of {', '.join(SPLITS)}")
    folder = Path(root) / dataset
    path = folder / f"{split}.npz"
    if not path.exists() and (sharded := _sharded(folder)):
        from stages.lib import shards

        return shards.load(sharded, split)
    about = read_about(folder / "manifest.json")
    if artifacts.sha256(path) != about["outputs"].get(path.name):
        raise StageError(f"{path}: differs from its manifest; run the prepare stage of {dataset} again")
    x, y = artifacts.read_npz(path, "x", "y")
    check(x, y, len(about["classes"]), str(path))
    names, moments = tuple(about["classes"]), (tuple(about["mean"]), tuple(about["std"]))
    return Pixels(torch.from_numpy(x), torch.from_numpy(y), names, *moments, about["source"], split)


def _sharded(folder: Path) -> Path | None:
    """The folder of a set's shards: its own, or the one beside it. Raises StageError if it was only indexed so far."""
    beside = folder.with_name(f"{folder.name}_shards")
    found = next((place for place in (folder, beside) if place.name.endswith("_shards") and place.is_dir()), None)
    if found is None and (folder / "index.csv").is_file():
        raise StageError(f"{folder}: holds an index only; pack its images by `snakemake {beside.name}`")
    return found


def normalised(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """uint8 [N, C, H, W] to float32 of mean 0 and deviation 1, given those of each channel in [0, 1]."""
    import torch

    centre, spread = (torch.tensor(list(m), dtype=torch.float32, device=pixels.device).view(1, -1, 1, 1) for m in (mean, std))
    return pixels.to(torch.float32).div_(255).sub_(centre).div_(spread)


def noise(shape: list[int], classes: int, count: int) -> Split:
    """`count` images of Gaussian noise of the shape [C, H, W], with labels spread over the classes, for shakedowns."""
    import torch

    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) * classes // count
    plain = (0.0,) * shape[0]
    return Split(images, labels, tuple(map(str, range(classes))), plain, plain, "noise", "shakedown")


def read_about(path: Path, *more: str) -> dict[str, Any]:
    """The manifest of a prepared set. Raises StageError if it lacks a key (`more` beside the usual ones)."""
    about = artifacts.read_json(path)
    for key in ("classes", "mean", "std", "source", "outputs", *more):
        if not isinstance(about, dict) or key not in about:
            raise StageError(f"{path}: lacks the key {key}; run the prepare stage again")
    if not all(value > 0 for value in about["std"]):
        raise StageError(f"{path}: std has a channel without variation; expected every value above 0")
    return about


def check(x: numpy.ndarray, y: numpy.ndarray, classes: int, name: str) -> None:
    """Check that x is uint8 [N, C, H, W] and y int64 [N] with every class present. Raises StageError."""
    import numpy

    if x.dtype != numpy.uint8 or x.ndim != 4:
        raise StageError(f"{name}: x is {x.dtype} {list(x.shape)}; expected uint8 [N, C, H, W]")
    if y.dtype != numpy.int64 or y.shape != x.shape[:1]:
        raise StageError(f"{name}: y is {y.dtype} {list(y.shape)}; expected int64 [{len(x)}], one label an image")
    check_labels(y, classes, name)


def check_labels(y: numpy.ndarray, classes: int, name: str) -> None:
    """Check that labels int64 [N] are in 0..classes-1, every class present. Raises StageError."""
    import numpy

    if len(y) == 0:
        raise StageError(f"{name}: the split is empty; expected at least one image a class")
    if y.min() < 0 or y.max() >= classes:
        raise StageError(f"{name}: labels {y.min()} to {y.max()}; expected 0 to {classes - 1}")
    absent = numpy.flatnonzero(numpy.bincount(y, minlength=classes) == 0)
    if len(absent):
        raise StageError(f"{name}: class {', '.join(map(str, absent))} has no image; raise the limit or use more data")


def channel_statistics(x: numpy.ndarray) -> tuple[list[float], list[float]]:
    """Mean and deviation per channel of uint8 [N, C, H, W], in units of [0, 1].

    From integer sums, so that the digits do not depend on the order of summation.
    """
    import math

    import numpy

    count = x.size // x.shape[1]
    mean, std = [], []
    for channel in range(x.shape[1]):
        histogram = numpy.bincount(x[:, channel].reshape(-1), minlength=256).tolist()
        total = sum(value * times for value, times in enumerate(histogram))
        squares = sum(value * value * times for value, times in enumerate(histogram))
        mean.append(total / (255 * count))
        std.append(math.sqrt((count * squares - total * total) / (255 * 255 * count * count)))
    return mean, std


def stratified(y: numpy.ndarray, counts: dict[str, int], seed: int) -> dict[str, numpy.ndarray]:
    """Disjoint index sets of the given sizes with class shares as equal as they can be, each in ascending order.

    Examples of a class are put in a seeded order and dealt so that every prefix of the deal is balanced.
    NumPy's RandomState is used because its stream is frozen. Raises StageError if too few examples.
    """
    import numpy

    if sum(counts.values()) > len(y):
        wanted = " + ".join(f"{name} {number}" for name, number in counts.items())
        raise StageError(f"splits {wanted} need {sum(counts.values())} examples, there are {len(y)}; lower a size")
    random = numpy.random.RandomState(seed)
    order = random.permutation(len(y))
    # Where in its class an example comes, as a share: sorting by it interleaves the classes evenly.
    share = numpy.empty(len(y))
    for label in numpy.unique(y):
        members = order[y[order] == label]
        share[members] = (numpy.arange(len(members)) + 0.5) / len(members)
    deal = order[numpy.argsort(share[order], kind="stable")]
    parts, start = {}, 0
    for name, number in counts.items():
        parts[name] = numpy.sort(deal[start : start + number])
        start += number
    return parts


def pad_crop_flip(pad: int, flip: bool = True) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    """Augmentation of CIFAR's kind: pad by zeros (the mean, after normalisation), crop at random, mirror half.

    Returns a function of (x [B, C, H, W], CPU generator) for training.train; every image is drawn on its own.
    """

    def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        import torch

        count, channels, height, width = x.shape
        shift = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)
        rows = shift[0] + torch.arange(height)
        columns = shift[1] + torch.arange(width)
        if flip:
            mirrored = torch.randint(0, 2, (count, 1), generator=generator).bool()
            columns = torch.where(mirrored, columns.flip(1), columns)
        # One gather on flattened pixels: a third of the time of indexing by rows and columns.
        pixels = (rows.unsqueeze(2) * (width + 2 * pad) + columns.unsqueeze(1)).view(count, 1, -1).to(x.device)
        padded = torch.nn.functional.pad(x, (pad, pad, pad, pad)).flatten(2)
        return padded.gather(2, pixels.expand(-1, channels, -1)).view(count, channels, height, width)

    return augment
