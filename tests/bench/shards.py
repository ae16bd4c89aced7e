"""Training from shards: memory and pace of an epoch at 5,000, 20,000 and 50,000 photographs, against files of their own."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import numpy

from stages.lib import images
from stages.lib.decoding import decode, to_rgb
from stages.prepare import imagenet_shards
from tests import sharded
from tests.bench.table import Row

SIDE, BATCH, COUNTS = 64, 200, (5_000, 20_000, 50_000)
SHARDS = ("params.side=0", f"params.image={SIDE}", f"params.shorter={SIDE}", "params.per_shard=1000")
REPEATS = 3


def packed(root: Path, photographs: Path, rows: list[tuple]) -> Path:
    """A root with shards of some of the photographs."""
    sharded.settings(root)
    sharded.write_index(root, rows)
    (root / "images").symlink_to(photographs)
    with contextlib.chdir(root):
        imagenet_shards.main(list(SHARDS))
    return root


def files_a_second(root: Path, count: int) -> float:
    """Images a second, read and decoded from their own files in random order."""
    with contextlib.chdir(root):
        index = images.read_index("imagenet", "train")
        began = time.monotonic()
        for place in numpy.random.RandomState(0).permutation(len(index))[:count].tolist():
            content = images.path_of(index, place).read_bytes()
            numpy.asarray(to_rgb(decode(content, place))).transpose(2, 0, 1).copy()
        return count / (time.monotonic() - began)


def rows() -> list[Row]:
    """Peaks of whole epochs in training order, each in a process of its own, above that process's start; paces."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "all"
        sharded.indexed(whole, max(COUNTS), SIDE)
        listed = sharded.read_rows(whole)
        train, others = [row for row in listed if row[2] == "train"], [row for row in listed if row[2] != "train"]
        roots = {count: packed(Path(folder) / str(count), whole / "images", train[:count] + others) for count in COUNTS}
        found = {count: sharded.child(roots[count], BATCH) for count in COUNTS}
        paces = [(files_a_second(roots[max(COUNTS)], 5_000), _pace(roots[min(COUNTS)])) for _ in range(REPEATS)]
    peaks = {count: found[count]["peak"] for count in COUNTS}
    least, most = min(COUNTS), max(COUNTS)
    held = most * 3 * SIDE * SIDE * 4 / 2**20
    files, ours = sorted(paces, key=lambda pace: pace[1] / pace[0])[REPEATS // 2]
    return [
        *(_against(f"an epoch of {count} JPEGs from shards: memory against {least}, MB", peaks[count], peaks[least], "<= 1.1")
          for count in COUNTS if count > least),
        _against(f"an epoch of {most} JPEGs from shards: memory against all of them decoded, MB", peaks[most], held, "<= 0.1"),
        _against("training order from shards against decoding single files, one thread, JPEGs a second", ours, files, ">= 0.9"),
    ]  # fmt: skip


def _pace(root: Path) -> float:
    found = sharded.child(root, BATCH)
    return found["images"] / found["seconds"]


def _against(name: str, ours: float, reference: float, goal: str) -> Row:
    return Row(name, f"{ours:.0f}", f"{reference:.0f}", ours / reference, goal)
