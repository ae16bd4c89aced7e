"""Photographs read from their files at training time, through the index that a prepare stage wrote.

For sets too large for one array. The augmentation of an image depends on the seed, the epoch and the image alone,
so batches are the same for any number of worker processes.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib import artifacts
from stages.lib.data import PREPARED, SPLITS
from stages.lib.decoding import decode, to_rgb
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed

if TYPE_CHECKING:
    import numpy
    import torch

# Channel mean and deviation of ImageNet's training images, of pixels in [0, 1]; as in the field's reference training code.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
EVERY = "train+val"  # all of the publisher's training images, for a final run

Transform = Callable[[Any], "torch.Tensor"]


@dataclasses.dataclass(frozen=True)
class Index:
    """Images of one split: where they are and what they show.

    paths (relative to root) and digests (SHA-256 in hex) are byte strings [N], labels int64 [N]. NumPy arrays, because
    lists of a million strings are copied into every worker as their reference counts change.
    """

    root: Path
    paths: numpy.ndarray
    labels: numpy.ndarray
    digests: numpy.ndarray
    classes: tuple[str, ...]
    source: str
    split: str

    def __len__(self) -> int:
        return len(self.labels)


def read_index(dataset: str, split: str, folder: str | Path = PREPARED) -> Index:
    """The images of train, val, test or train+val. Raises StageError for an absent, altered or empty index.

    val is held out from the publisher's training images; test is the publisher's validation set.
    """
    import numpy

    if split not in (*SPLITS, EVERY):
        raise StageError(f"split={split}: expected one of {', '.join((*SPLITS, EVERY))}")
    about = artifacts.read_json(Path(folder) / dataset / "manifest.json")
    path = Path(folder) / dataset / "index.csv"
    for key in ("classes", "index_sha256", "root", "source"):
        if not isinstance(about, dict) or key not in about:
            raise StageError(f"{path.with_name('manifest.json')}: lacks the key {key}; expected that of an indexed set")
    if artifacts.sha256(path) != about["index_sha256"]:
        raise StageError(f"{path}: differs from its manifest; run the prepare stage of {dataset} again")
    table = csv.DictReader(io.StringIO(artifacts.read_bytes(path).decode(), newline=""))
    rows = [(row["path"], row["label"], row["sha256"]) for row in table if row["split"] in split.split("+")]
    if not rows:
        raise StageError(f"{path}: holds no image of split {split}; run the prepare stage of {dataset} again")
    paths, labels, digests = zip(*rows)
    return Index(
        root=Path(about["root"]),
        paths=numpy.array([name.encode() for name in paths]),
        labels=numpy.array(labels, dtype=numpy.int64),
        digests=numpy.array([digest.encode() for digest in digests]),
        classes=tuple(about["classes"]),
        source=about["source"],
        split=split,
    )


def train_transform(size: int = 224) -> Transform:
    """RGB image to float32 [3, size, size]: 8 to 100 % of its area at 3:4 to 4:3, resized; mirrored half the time."""
    transforms = _transforms()
    crop = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    return transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def eval_transform(size: int = 224, shorter: int = 256) -> Transform:
    """RGB image to float32 [3, size, size]: the shorter side resized to `shorter`, the middle cut out."""
    transforms = _transforms()
    crop = [transforms.Resize(shorter), transforms.CenterCrop(size)]
    return transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def _transforms() -> Any:
    """torchvision.transforms, imported after what it lacks here."""
    from stages.lib import vision_compat

    vision_compat.install()
    from torchvision import transforms

    return transforms


class Images:
    """A map-style dataset: (epoch, place) -> (float32 [3, S, S], label).

    A file that is missing, altered or damaged comes back as its StageError, because an exception that leaves a worker
    process arrives as a page of traceback.
    """

    def __init__(self, index: Index, transform: Transform, seed: int) -> None:
        self.index = index
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int] | StageError:
        import torch

        epoch, place = key
        try:
            image = to_rgb(read_image(self.index, place))
        except StageError as error:
            return error
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator only
            torch.manual_seed(derive_seed(self.seed, "augment", epoch, place))
            return self.transform(image), int(self.index.labels[place])


def path_of(index: Index, place: int) -> Path:
    """The file of one image of an index."""
    return index.root / index.paths[place].decode()


def read_content(index: Index, place: int) -> bytes:
    """The bytes of one image of an index. Raises StageError if its file is not the one that was indexed."""
    import hashlib

    path = path_of(index, place)
    content = artifacts.read_bytes(path)
    if hashlib.sha256(content).hexdigest().encode() != index.digests[place]:
        raise StageError(f"{path}: differs from the index; restore the file or run the prepare stage again")
    return content


def read_image(index: Index, place: int) -> Any:
    """Decode one image of an index. Raises StageError if its file is not the one that was indexed."""
    return decode(read_content(index, place), path_of(index, place))


class EpochSampler:
    """(epoch, place) of every image once, in an order drawn from seed and epoch, or in the index's order (seed None)."""

    def __init__(self, count: int, seed: int | None) -> None:
        self.count = count
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        import torch

        order = range(self.count)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
            order = torch.randperm(self.count, generator=generator).tolist()
        return ((self.epoch, place) for place in order)


class Loader:
    """Batches (x float32 [B, 3, S, S], y int64 [B]) of an index; the last one may be smaller.

    shuffle draws the order anew each epoch. Call set_epoch before every pass over a training split.
    """

    def __init__(
        self, index: Index, transform: Transform, *, batch: int, seed: int, shuffle: bool = False, workers: int = 0
    ) -> None:
        import torch

        if batch < 1 or workers < 0:
            raise StageError(f"batch={batch}, workers={workers}: expected a batch of 1 or more and 0 or more workers")
        self.sampler = EpochSampler(len(index), seed if shuffle else None)
        self.loader = torch.utils.data.DataLoader(
            Images(index, transform, seed),
            batch_size=batch,
            sampler=self.sampler,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else every pass takes a number from the global generator
        )

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next pass, counted from 0; it decides order and augmentation."""
        self.sampler.epoch = epoch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in self.loader:
            if isinstance(batch, StageError):
                raise batch
            yield batch


def _collate(items: list[Any]) -> Any:
    import torch

    for item in items:
        if isinstance(item, StageError):
            return item
    images, labels = zip(*items)
    return torch.stack(images), torch.tensor(labels)
