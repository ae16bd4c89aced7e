"""Training from shards: memory and pace of an epoch at 5,000, 20,000 and 50,000 photographs, against files of their own."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import numpy
import torch

from stages.lib import data, images
from stages.lib.decoding import decode, to_rgb
from stages.prepare import imagenet_shards
from tests import sharded
from tests.bench.table import Row

SIDE, BATCH, COUNTS = 64, 200, (5_000, 20_000, 50_000)
SHARDS = ("params.side=0", f"params.image={SIDE}", f"params.shorter={SIDE}", "params.per_shard=1000")
DECODED = 3 * SIDE * SIDE * 4  # bytes of a float32 image
REPEATS = 3


def packed(root: Path, photographs: Path, rows: list[tuple]) -> Path:
    """A root with shards of some of the photographs."""
    sharded.settings(root)
    sharded.write_index(root, rows)
    (root / "images").symlink_to(photographs)
    with contextlib.chdir(root):
        imagenet_shards.main(list(SHARDS))
    return root


def pace_of_files(root: Path) -> float:
    """Images a CPU second in normalised batches, each read from a file of its own, in random order."""
    with contextlib.chdir(root):
        index = images.read_index("imagenet", "train")
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
        times = [time.process_time()]
        for places in order.split(BATCH):
            pixels = torch.from_numpy(numpy.stack([_pixels(index, place) for place in places.tolist()]))
            data.normalised(pixels, images.MEAN, images.STD)
            times.append(time.process_time())
        return (len(index) - BATCH) / (times[-1] - times[1])


def _pixels(index: images.Index, place: int) -> numpy.ndarray:
    content = images.path_of(index, place).read_bytes()
    return numpy.asarray(to_rgb(decode(content, place))).transpose(2, 0, 1)


def rows() -> list[Row]:
    """Peaks of whole epochs in training order, each in a process of its own, above that process's start; and paces."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "all"
        sharded.indexed(whole, max(COUNTS), SIDE)
        listed = sharded.read_rows(whole)
        train, others = [row for row in listed if row[2] == "train"], [row for row in listed if row[2] != "train"]
        roots = {count: packed(Path(folder) / str(count), whole / "images", train[:count] + others) for count in COUNTS}
        found = {count: sharded.child(roots[count], BATCH) for count in COUNTS}
        few = roots[min(COUNTS)]
        paces = [(pace_of_files(few), sharded.child(few, BATCH)["pace"]) for _ in range(REPEATS)]
    files, ours = sorted(paces, key=lambda pace: pace[1] / pace[0])[REPEATS // 2]
    return [
        *(_peak(count, found[count]["peak"]) for count in COUNTS),
        _growth({count: found[count]["peak"] for count in COUNTS}),
        _against("JPEGs a CPU second in training order from shards, against single files", ours, files, ">= 0.9"),
    ]


def _peak(count: int, peak: float) -> Row:
    name = f"an epoch of {count} JPEGs from shards: most memory against all of them decoded, MB"
    return _against(name, peak, count * DECODED / 2**20, "falls as 1/N")


def _growth(peaks: dict[int, float]) -> Row:
    """What an image more costs: its place in the index and in the order."""
    least, most = min(COUNTS), max(COUNTS)
    grown = (peaks[most] - peaks[least]) * 2**20 / (most - least)
    return _against(f"memory for an image more from {least} to {most}, against one decoded, bytes", grown, DECODED, "<= 0.01")


def _against(name: str, ours: float, reference: float, goal: str) -> Row:
    return Row(name, f"{ours:.0f}", f"{reference:.0f}", ours / reference, goal)
