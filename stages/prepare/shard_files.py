"""Writing tar shards of an indexed split: a seeded order, the same bytes for the same images, an index of offsets."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy

from stages.lib import artifacts, images
from stages.lib.decoding import decode, to_rgb
from stages.lib.errors import StageError, one_line
from stages.lib.files import SCRATCH
from stages.lib.shard_index import member_name, shard_name

CHUNK = 64  # images that wait for their turn to be written
OWNER = "reprise"
MEMBER = re.compile(r"(\d{8})\.(cls|jpg)")
LABEL = 20  # bytes of a label at most


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How images are stored: a shorter side of `side` pixels at most, 0 for the files as they are; JPEG quality."""

    side: int
    quality: int

    def content(self, index: images.Index, place: int) -> bytes:
        """What is stored for an image of an index. Raises StageError if its file is altered or damaged."""
        from PIL.Image import Resampling

        content = images.read_content(index, place)
        if not self.side:
            return content
        image = decode(content, images.path_of(index, place))
        if min(image.size) <= self.side:
            return content
        short = min(image.size)
        shape = tuple(int(self.side * length / short) for length in image.size)
        buffer = io.BytesIO()
        to_rgb(image).resize(shape, Resampling.BILINEAR).save(buffer, "JPEG", quality=self.quality)
        return buffer.getvalue()


class Journal:
    """Which shards an unfinished run has written, by their SHA-256; of no use to a run with another header."""

    def __init__(self, dataset: str, header: Any) -> None:
        self.path = SCRATCH / "prepare" / f"{dataset}.jsonl"
        self.header = json.dumps(header)
        self.done = self._read()
        self._write()

    def _read(self) -> dict[str, str]:
        try:
            header, *lines = self.path.read_text().splitlines()
            return dict(json.loads(line) for line in lines) if header == self.header else {}
        except (OSError, ValueError):  # none yet
            return {}

    def _write(self) -> None:
        lines = [self.header, *(json.dumps(item) for item in self.done.items())]
        artifacts.write_bytes(self.path, "".join(line + "\n" for line in lines).encode(), durable=False)

    def has(self, path: Path) -> bool:
        """Whether the shard is there as it was written."""
        return path.name in self.done and path.is_file() and artifacts.sha256(path) == self.done[path.name]

    def add(self, path: Path) -> None:
        """Note a shard that is complete."""
        self.done[path.name] = artifacts.sha256(path)
        self._write()

    def remove(self) -> None:
        """Forget, once the manifest is written."""
        self.path.unlink(missing_ok=True)


def write_split(
    index: images.Index, stem: Path, per_shard: int, seed: int, encoding: Encoding, threads: int, journal: Journal
) -> list[Path]:
    """Write <stem>-00000.tar and so on with at most per_shard images each, and <stem>.index.npz; returns their paths.

    The index holds offset and size (bytes) of every image, its label y and its row in the split of the source's index;
    count and bytes of every shard. All int64. Raises StageError for altered or damaged images.
    """
    from tqdm import tqdm

    # NumPy's RandomState is used because its stream is frozen.
    rows = numpy.random.RandomState(seed).permutation(len(index))
    parts = numpy.array_split(rows, -(-len(index) // per_shard))
    made, entries, first = [], [], 0
    for number, part in enumerate(tqdm(parts, desc=stem.name, disable=None)):
        path = stem.with_name(shard_name(stem.name, number))
        if not journal.has(path):
            write_shard(path, index, part, first, encoding, threads)
            journal.add(path)
        found = scan(path)
        if [(place, label) for place, _, _, label in found] != list(enumerate(index.labels[part].tolist(), first)):
            raise StageError(f"{path}: does not hold what was written to it; check the disk")
        made.append(path)
        entries += found
        first += len(part)
    _write_index(stem, made, entries, rows, [len(part) for part in parts])
    print(f"{stem.name}: {len(rows)} images in {len(made)} shards", flush=True)
    return [*made, stem.with_name(f"{stem.name}.index.npz")]


def _write_index(stem: Path, made: list[Path], entries: list[Any], rows: numpy.ndarray, count: list[int]) -> None:
    _, offset, size, y = (numpy.array(column, dtype=numpy.int64) for column in zip(*entries))
    artifacts.write_npz(
        stem.with_name(f"{stem.name}.index.npz"),
        offset=offset,
        size=size,
        y=y,
        row=rows.astype(numpy.int64),
        count=numpy.array(count, dtype=numpy.int64),
        bytes=numpy.array([path.stat().st_size for path in made], dtype=numpy.int64),
    )


def write_shard(path: Path, index: images.Index, rows: numpy.ndarray, first: int, encoding: Encoding, threads: int) -> None:
    """Write one shard with the images of these rows at the places first, first + 1, ...; atomic, the same bytes each time."""
    from webdataset import TarWriter

    fixed = {"user": OWNER, "group": OWNER, "mode": 0o644, "mtime": 0}
    # A stream and bytes only: names would be taken for URLs, values encoded by what the keys suggest (pickles among it).
    with artifacts.atomic(path) as temporary, temporary.open("wb") as stream, TarWriter(stream, encoder=False, **fixed) as tar:
        for place, (row, content) in enumerate(_contents(index, rows.tolist(), encoding, threads), first):
            tar.write({"__key__": member_name(place)[:-4], "jpg": content, "cls": b"%d" % index.labels[row]})


def _contents(index: images.Index, rows: list[int], encoding: Encoding, threads: int) -> Iterator[tuple[int, bytes]]:
    """(row, what is stored) in order. Decoding releases Python's lock, so threads help; at most CHUNK images wait."""
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            yield from zip(some, pool.map(lambda row: encoding.content(index, row), some))


def scan(path: Path) -> list[tuple[int, int, int, int]]:
    """(place, offset, size, label) of every image of a shard, from its headers and labels; images are not decoded.

    Raises StageError if the shard is damaged or truncated, or holds anything but <place>.cls and <place>.jpg in turn.
    """
    found, label = [], None
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                place, suffix = _parts(member, path)
                if suffix == "cls":
                    label = (place, _label(archive, member, path))
                elif label is None or label[0] != place:
                    raise StageError(f"{path}: {member.name}: without its label in front; expected .cls and .jpg in turn")
                else:
                    found.append((place, member.offset_data, member.size, label[1]))
        _check_end(path)
    except (OSError, tarfile.TarError) as error:
        raise StageError(f"{path}: no intact shard ({one_line(error)}); run the stage that makes it again") from error
    return found


def _check_end(path: Path) -> None:
    """tarfile takes a file that stops between two members for a whole one."""
    with path.open("rb") as handle:
        handle.seek(-2 * tarfile.BLOCKSIZE, os.SEEK_END)
        if any(handle.read()):
            raise tarfile.ReadError("truncated: no end mark")


def _parts(member: tarfile.TarInfo, path: Path) -> tuple[int, str]:
    match = MEMBER.fullmatch(member.name)
    if match is None or not member.isreg():
        raise StageError(f"{path}: {member.name}: refused; expected images (.jpg) and labels (.cls) only, nothing else is read")
    return int(match[1]), match[2]


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    text = archive.extractfile(member).read(LABEL + 1)
    if not re.fullmatch(rb"\d{1,%d}" % LABEL, text):
        raise StageError(f"{path}: {member.name}: {text[:LABEL]!r} is no label; expected digits")
    return int(text)
