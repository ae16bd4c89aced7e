"""What tests and benchmarks of shards share: generated photographs with their index, shards of them, an epoch's memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy
from PIL import Image

from stages.lib import artifacts

ROOT = Path(__file__).parents[1]
PREPARED = Path("runs/prepare")
COLUMNS = ("path", "label", "split", "sha256")
CLASSES = 10


def jpegs(count: int, side: int, seed: int = 0) -> Iterator[bytes]:
    """JPEG files of smooth noise, side x side pixels."""
    pixels = numpy.random.RandomState(seed).randint(0, 256, (count, 6, 6, 3), dtype=numpy.uint8)
    for one in pixels:
        buffer = io.BytesIO()
        Image.fromarray(one).resize((side, side)).save(buffer, "JPEG")
        yield buffer.getvalue()


def indexed(root: Path, train: int, side: int, others: int = CLASSES) -> None:
    """Photographs below root/images, with the index that ImageNet's prepare stage writes of them."""
    rows = []
    for split, count in (("train", train), ("val", others), ("test", others)):
        for number, content in enumerate(jpegs(count, side, seed=len(split))):
            path = root / "images" / split / f"{number % 100}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            rows.append((path.relative_to(root / "images"), number % CLASSES, split, digest))
    write_index(root, rows)


def write_index(root: Path, rows: list[tuple]) -> None:
    folder = root / PREPARED / "imagenet"
    artifacts.write_csv(folder / "index.csv", [dict(zip(COLUMNS, row)) for row in rows])
    about = {"classes": [f"class {k}" for k in range(CLASSES)], "root": str(root / "images"), "source": "sample"}
    digest = artifacts.sha256(folder / "index.csv")
    artifacts.write_manifest(folder / "manifest.json", outputs=[], index_sha256=digest, files="generated", **about)


def read_rows(root: Path) -> list[tuple]:
    """The rows that write_index wrote."""
    lines = (root / PREPARED / "imagenet/index.csv").read_text().splitlines()[1:]
    return [tuple(line.split(",")) for line in lines]


def settings(root: Path) -> None:
    """The parameters, so that stages run in root."""
    shutil.copytree(ROOT / "params/dataset", root / "params/dataset", dirs_exist_ok=True)
    shutil.copy(ROOT / "params/config.yaml", root / "params/config.yaml")


def child(root: Path, *arguments: object) -> dict[str, float]:
    """Run this module in root, in a process of its own; what it printed last.

    The allocator gives freed batches back at once: left alone it keeps some of them, between one and six by chance.
    """
    command = [sys.executable, "-m", "tests.sharded", *map(str, arguments)]
    own = {"PYTHONPATH": str(ROOT), "MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(command, cwd=root, env=os.environ | own, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def status(key: str) -> float:
    """A figure of this process in MB, e.g. VmRSS, VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def epoch(batch: int) -> dict[str, float]:
    """One pass over the training split in training order: images, images a CPU second, and the most memory (MB) beyond
    that at the start.

    The start is after all imports; a batch as large as the split shows what holding the images would take. The pace is
    that after the first batch, during which libraries set themselves up.
    """
    import torch

    from stages.lib import data, shards  # noqa: F401  imported before memory is looked at

    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = status("VmRSS")
    split = data.load("imagenet", "train")
    times = [time.process_time()]
    for index in split.x.order(torch.Generator().manual_seed(0)).split(batch):
        assert split.x[index].shape[0] == len(index)
        times.append(time.process_time())
    pace = (len(split) - batch) / (times[-1] - times[1]) if len(times) > 2 else 0.0
    return {"images": len(split), "pace": pace, "peak": status("VmHWM") - before}


if __name__ == "__main__":
    print(json.dumps(epoch(int(sys.argv[1]))))
