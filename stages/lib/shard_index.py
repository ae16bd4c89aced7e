"""Where the images of tar shards lie, and reading one of them by its offset.

A shard is a WebDataset: for the image at place p of its split the members <p>.cls (the label) and <p>.jpg. That library
reads a shard from its beginning only, so that it could not take up an epoch in its middle; the index of offsets lets any
image be read by itself. Nothing but the images that an index names is read: a pickle in a shard is never opened.
"""

from __future__ import annotations

import dataclasses
import os
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy

from stages.lib import artifacts
from stages.lib.errors import StageError

ARRAYS = ("offset", "size", "y", "count", "bytes")  # of an index file; `row`, for people, says where an image came from
AGAIN = "run the stage that makes the shards again"


def shard_name(split: str, number: int) -> str:
    """File name of a shard, counted from 0."""
    return f"{split}-{number:05d}.tar"


def member_name(place: int, suffix: str = "jpg") -> str:
    """Name of the member of the image at a place of its split."""
    return f"{place:08d}.{suffix}"


@dataclasses.dataclass(frozen=True)
class Index:
    """Where the images of a split lie: 16 bytes for each, beside its label.

    shard int32 [N] (ascending), offset int64 [N] and size int32 [N] (bytes) of what the member holds; digest: SHA-256.
    """

    files: tuple[Path, ...]
    shard: numpy.ndarray
    offset: numpy.ndarray
    size: numpy.ndarray
    digest: str


def read_index(folder: Path, split: str, wanted: str | None) -> tuple[Index, numpy.ndarray]:
    """(index, labels int64 [N]) of a split, whose index file has the SHA-256 `wanted`. Raises StageError.

    Of the shards it is checked that they are there in their sizes.
    """
    path = folder / f"{split}.index.npz"
    digest = artifacts.sha256(path)
    if digest != wanted:
        raise StageError(f"{path}: differs from its manifest; {AGAIN}")
    offset, size, y, count, sizes = artifacts.read_npz(path, *ARRAYS)
    files = tuple(folder / shard_name(split, number) for number in range(len(count)))
    for file, expected in zip(files, sizes.tolist()):
        _check_size(file, expected)
    shard = numpy.repeat(numpy.arange(len(count), dtype=numpy.int32), count)
    return Index(files, shard, offset, size.astype(numpy.int32), digest), y


def _check_size(file: Path, wanted: int) -> None:
    try:
        found = file.stat().st_size
    except OSError as error:
        raise StageError(f"{file}: cannot be read: {error.strerror}; {AGAIN}") from error
    if found != wanted:
        raise StageError(f"{file}: {found} bytes, expected {wanted}; {AGAIN}")


class Handles:
    """Open shards, the least recently used closed first. Reading is by offset, so threads and forks may share them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.files: OrderedDict[Path, BinaryIO] = OrderedDict()

    def open(self, paths: Sequence[Path]) -> dict[Path, int]:
        """File descriptors of at most `most` shards. Raises StageError if one cannot be opened."""
        for path in paths:
            try:
                self.files[path] = self.files.pop(path, None) or open(path, "rb", buffering=0)  # noqa: SIM115  kept open
            except OSError as error:
                raise StageError(f"{path}: cannot be read: {error.strerror}; {AGAIN}") from error
        while len(self.files) > self.most:
            self.files.popitem(last=False)[1].close()
        return {path: self.files[path].fileno() for path in paths}


def read_member(handle: int, path: Path, place: int, offset: int, size: int) -> bytes:
    """What the member of an image holds, with the header in front of it checked. Raises StageError."""
    wanted = member_name(place)
    try:
        block = os.pread(handle, tarfile.BLOCKSIZE + size, offset - tarfile.BLOCKSIZE)
    except OSError as error:
        raise StageError(f"{path}: {wanted}: cannot be read: {error.strerror}; check the disk") from error
    if len(block) < tarfile.BLOCKSIZE + size:
        raise StageError(f"{path}: {wanted}: truncated, the shard ends within it; {AGAIN}")
    try:
        header = tarfile.TarInfo.frombuf(block[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise StageError(f"{path}: {wanted}: no member begins where the index says; {AGAIN}") from error
    if (header.name, header.size, header.isreg()) != (wanted, size, True):
        raise StageError(f"{path}: {wanted}: the index says so of {header.name!r} ({header.size} bytes); {AGAIN}")
    return block[tarfile.BLOCKSIZE :]
