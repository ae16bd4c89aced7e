"""MNIST's files (the publisher's, re-made ones, or the embedded sample, gzipped or not) to one file a split."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

PARTS = ("train", "t10k")
KINDS = {"images-idx3-ubyte": 2051, "labels-idx1-ubyte": 2049}  # magic number: 8-bit values, 3 or 1 dimensions
CLASSES = tuple(str(digit) for digit in range(10))


@dataclass
class Params:
    """params/dataset/mnist.yaml."""

    folder: str = parameter(help="folder of the files below data/<source>/mnist")
    shape: list[int] = parameter(help="channels, height, width of an image")
    split_seed: int = parameter(help="seed of every random division")
    val: dict[str, int] = parameter(help="by source: so many training images are validation")
    limit: dict[str, int | None] = parameter(help="at most so many images of train, val, test; null for all")
    official_md5: dict[str, str] = parameter(help="MD5 of the publisher's files, gzipped and as they unpack")
    sample_sha256: dict[str, str] = parameter(help="SHA-256 of the embedded sample's files")

    def check(self) -> None:
        """Ranges that types do not tell."""
        if len(self.shape) != 3 or self.shape[0] != 1:
            raise StageError(f"params.shape={self.shape}: expected 1 channel, height, width")
        if not self.val or min(self.val.values()) < 1:
            raise StageError(f"params.val={dict(self.val)}: expected 1 or more images for every source")


@dataclass
class Config:
    """What the stage needs."""

    source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/mnist"})
def main(cfg: Config) -> None:
    """Read MNIST in the publisher's layout from data/<source>/mnist, hold out a validation split and write
    runs/prepare/mnist/{train,val,test}.npz with a manifest."""
    from stages.lib.artifacts import read_bytes
    from stages.prepare import provenance
    from stages.prepare.splits import write_splits

    folder = provenance.folder(cfg.source, "mnist") / cfg.params.folder
    paths = {(part, kind): find(folder, f"{part}-{kind}") for part in PARTS for kind in KINDS}
    contents = {path.name: read_bytes(path) for path in paths.values()}
    try:
        origin = provenance.classify(contents, cfg.params.official_md5, cfg.params.sample_sha256)
    except StageError as error:
        raise StageError(f"{folder}: {error}") from error
    provenance.refuse_misplaced(origin, cfg.source, folder)
    print(f"mnist: {folder} ({origin} files)", flush=True)
    read = {part: read_part(part, paths, contents, cfg.params.shape) for part in PARTS}
    parts, how = split(read, cfg.params.val.get(cfg.source), cfg.params.split_seed)
    print(f"mnist: {how}", flush=True)
    write_splits(
        "mnist",
        parts,
        limit=cfg.params.limit,
        seed=cfg.params.split_seed,
        classes=CLASSES,
        inputs=list(paths.values()),
        config=cfg,
        about={"source": cfg.source, "files": origin, "split": how},
    )


def find(folder: Path, name: str) -> Path:
    """The gzipped file, as the publisher has it, or else the unpacked one. Raises StageError if there is neither."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise StageError(f"{folder / name}.gz: not found; expected the publisher's four files, gzipped or not")


def read_part(part: str, paths: dict[tuple[str, str], Path], contents: dict[str, bytes], shape: list[int]) -> Any:
    """(x uint8 [N, 1, H, W], y int64 [N]) of a pair of files. Raises StageError if they do not belong together."""
    import numpy

    found = []
    for kind, size in (("images-idx3-ubyte", shape[1:]), ("labels-idx1-ubyte", [])):
        path = paths[part, kind]
        found.append(read_idx(contents[path.name], path, KINDS[kind], size))
    (x, y), path = found, paths[part, "labels-idx1-ubyte"]
    if len(x) != len(y):
        raise StageError(f"{path}: {len(y)} labels for {len(x)} images; the files do not belong together, fetch them again")
    if y.max(initial=0) >= len(CLASSES):
        row = int(numpy.argmax(y >= len(CLASSES)))
        raise StageError(f"{path}: image {row}: label {y[row]}; expected 0 to {len(CLASSES) - 1}")
    return x[:, None], y.astype(numpy.int64)


def read_idx(content: bytes, path: Path, magic: int, shape: list[int]) -> Any:
    """uint8 [N, *shape] of an IDX file: magic number and sizes as big-endian 32-bit numbers, then the values.

    Raises StageError naming what is wrong. A gzipped file is unpacked no further than its header says.
    """
    import numpy

    header = 8 + 4 * len(shape)
    start = unpacked(content, path, header)
    if len(start) < header:
        raise StageError(f"{path}: {len(start)} bytes; expected a header of {header}, fetch it again")
    found, count, *sizes = struct.unpack(f">{header // 4}I", start)
    if found != magic:
        raise StageError(f"{path}: magic number {found}; expected {magic}, fetch it again")
    if sizes != list(shape):
        raise StageError(f"{path}: images of {' x '.join(map(str, sizes))} pixels; expected {' x '.join(map(str, shape))}")
    if not count:
        raise StageError(f"{path}: empty; expected at least one image a class")
    total = header + count * int(numpy.prod(shape, dtype=numpy.int64))
    values = unpacked(content, path, total + 1)  # a byte more would show
    if len(values) != total:
        raise StageError(f"{path}: cut short or too long: the header says {total} bytes for {count} entries; fetch it again")
    return numpy.frombuffer(values, numpy.uint8, offset=header).reshape(count, *shape)


def unpacked(content: bytes, path: Path, most: int) -> bytes:
    """The first `most` bytes of a file, ungzipped if its name ends so. Raises StageError if it is damaged."""
    if path.suffix != ".gz":
        return content[:most]
    stream = zlib.decompressobj(wbits=31)
    try:
        values = stream.decompress(content, most)
    except zlib.error as error:
        raise StageError(f"{path}: not an intact gzip file ({error}); fetch it again") from error
    if len(values) < most and not stream.eof:
        raise StageError(f"{path}: not an intact gzip file (cut short); fetch it again")
    return values


def split(read: dict[str, Any], val: int | None, seed: int) -> tuple[dict[str, Any], str]:
    """(parts by split name, one sentence on how they were made) from {"train", "t10k": (x, y)}."""
    from stages.prepare.splits import divide

    count = len(read["train"][1])
    if val is None or not val < count:
        raise StageError(f"params.val={val}: expected fewer than the {count} training images, for every source")
    parts = divide(read["train"], {"val": val, "train": count - val}, seed)
    return parts | {"test": read["t10k"]}, f"test is t10k; val is {val} images held out from train"


if __name__ == "__main__":
    main()
