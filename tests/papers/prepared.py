"""Small prepared data sets for the tests of stage scripts."""

from pathlib import Path

import numpy

from stages.lib import artifacts


def prepare(folder: Path, dataset: str, shape: tuple[int, ...], classes: int = 10) -> None:
    """A prepared data set of patterns with noise: learnable, tiny, the contract's files."""
    random = numpy.random.RandomState(0)
    patterns = random.randint(40, 216, (classes, *shape))
    paths = []
    for split, count in (("train", 300), ("val", 60), ("test", 100)):
        y = numpy.arange(count) % classes
        x = numpy.clip(patterns[y] + random.normal(0, 30, (count, *shape)), 0, 255).astype(numpy.uint8)
        paths.append(folder / dataset / f"{split}.npz")
        artifacts.write_npz(paths[-1], x=x, y=y.astype(numpy.int64))
    about = {"mean": [0.5] * shape[0], "std": [0.25] * shape[0], "classes": list(map(str, range(classes)))}
    artifacts.write_manifest(
        folder / dataset / "manifest.json", outputs=paths, dataset=dataset, source="sample", files="embedded sample", **about
    )
