"""Images read from tar shards while a net trains on them: never more in memory than a batch and the index.

Images are read by offset, so their order is the sampler's own: the same with one process or many, and after a resume.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from stages.lib.data import Split, check_labels, normalised, read_about
from stages.lib.decoding import decode, to_rgb
from stages.lib.shard_index import Handles, Index, member_name, read_index, read_member

WINDOW = 8  # shards whose images are shuffled with each other
OPEN = 32  # shards open at a time


@dataclasses.dataclass(frozen=True)
class View:
    """What becomes of an image: its shorter side is resized to `shorter` pixels, then the middle `size` square cut out."""

    size: int
    shorter: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, content: bytes, name: str) -> numpy.ndarray:
        """uint8 [3, size, size] of an image file. Raises StageError naming it if it cannot be decoded."""
        from PIL.Image import Resampling

        image = to_rgb(decode(content, name, least=self.shorter))
        short, (width, height) = min(image.size), image.size
        if short != self.shorter:
            width, height = (int(self.shorter * side / short) for side in (width, height))
            image = image.resize((width, height), Resampling.BILINEAR)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return numpy.asarray(image.crop((left, top, left + self.size, top + self.size))).transpose(2, 0, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class ShardedImages:
    """In the place of a Split's x [N, 3, H, W]: an index or slice gives the float32 tensor of those images.

    Images are decoded when they are asked for, by as many threads as torch computes with; batches do not depend on how
    many, and lie on `device`. Raises StageError naming shard and member for what is missing, truncated or damaged.
    """

    index: Index
    view: View
    places: Tensor  # int64 [N], into the index
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    handles: Handles = dataclasses.field(default_factory=lambda: Handles(OPEN))
    dtype = torch.float32

    @property
    def shape(self) -> torch.Size:
        """[N, 3, H, W]"""
        return torch.Size((len(self.places), 3, self.view.size, self.view.size))

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[place] for place in range(len(self)))

    def to(self, device: torch.device | str) -> ShardedImages:
        """The same images, whose batches will lie on a device."""
        return dataclasses.replace(self, device=torch.device(device))

    def subset(self, key: Any) -> ShardedImages:
        """The images of an index or slice, still in their shards."""
        return dataclasses.replace(self, places=self.places[_on_cpu(key)])

    def __getitem__(self, key: Any) -> Tensor:
        places = self.places[_on_cpu(key)]
        pixels = torch.from_numpy(self._read(places.view(-1).tolist())).to(self.device)
        found = normalised(pixels, self.view.mean, self.view.std)
        return found if places.dim() else found[0]

    def order(self, generator: torch.Generator) -> Tensor:
        """All images once, int64 [N]: shards in random order, images shuffled within windows of WINDOW shards.

        Disks and networks then read a window's files while all others rest. Shards are random mixtures of the split, so
        little is lost against an order without windows. A set of one window has the order of a set in memory.
        """
        shards, mine = numpy.unique(self.index.shard[self.places.numpy()], return_inverse=True)
        if len(shards) <= WINDOW:
            return torch.randperm(len(self), generator=generator)
        window = torch.randperm(len(shards), generator=generator) // WINDOW
        order = torch.randperm(len(self), generator=generator)
        return order[torch.argsort(window[torch.from_numpy(mine)[order]], stable=True)]

    def fingerprint(self) -> str:
        """SHA-256 of what decides the images, without reading them: a resumed run is of the same data if it is equal."""
        text = repr((self.index.digest, dataclasses.astuple(self.view)))
        return hashlib.sha256(text.encode() + self.places.numpy().tobytes()).hexdigest()

    def _read(self, places: list[int]) -> numpy.ndarray:
        """uint8 [B, 3, H, W]: in the order of the files, a bounded number of them open."""
        pixels = numpy.empty((len(places), *self.shape[1:]), numpy.uint8)
        ranks = sorted(range(len(places)), key=places.__getitem__)
        shards = self.index.shard[[places[rank] for rank in ranks]]
        wanted = numpy.unique(shards)
        for start in range(0, len(wanted), self.handles.most):
            some = wanted[start : start + self.handles.most]
            opened = self.handles.open([self.index.files[shard] for shard in some])
            first, last = numpy.searchsorted(shards, (some[0], some[-1] + 1))

            def fill(rank: int, opened: dict[Path, int] = opened) -> None:
                pixels[rank] = self._pixels(places[rank], opened)

            _each(fill, ranks[first:last])
        return pixels

    def _pixels(self, place: int, opened: dict[Path, int]) -> numpy.ndarray:
        path = self.index.files[self.index.shard[place]]
        content = read_member(opened[path], path, place, int(self.index.offset[place]), int(self.index.size[place]))
        return self.view.pixels(content, f"{path}: {member_name(place)}")


def _on_cpu(key: Any) -> Any:
    return key.cpu() if isinstance(key, Tensor) else key


def _each(function: Callable[[int], None], items: Sequence[int]) -> None:
    """Call the function for every item. A pool lives no longer than a batch: nothing to close, and forks are safe."""
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        for item in items:
            function(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(function, items))


def load(folder: Path, split: str) -> Split:
    """Open the shards of a split. Raises StageError if index or shards are absent, or not what the manifest says.

    The index is hashed, shards must be there in their sizes, and the header of every image is checked when it is read.
    `artifacts.verify_manifest(folder / "manifest.json")` hashes the shards too, which takes long for a large set.
    """
    about = read_about(folder / "manifest.json", "image", "shorter")
    index, y = read_index(folder, split, about["outputs"].get(f"{split}.index.npz"))
    check_labels(y, len(about["classes"]), str(folder / f"{split}.index.npz"))
    view = View(about["image"], about["shorter"], tuple(about["mean"]), tuple(about["std"]))
    x = ShardedImages(index, view, torch.arange(len(y)))
    return Split(x, torch.from_numpy(y), tuple(about["classes"]), view.mean, view.std, about["source"], split)
