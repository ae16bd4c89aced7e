"""Generated glyphs: many classes of small grey patterns, base, validation and novel ones, for few-shot tasks.

A class is a smoothed Gaussian field; an image of it is shifted (around the edges), rotated, changed in contrast and offset,
and noisy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stages.lib.errors import StageError
from stages.lib.stage import field as parameter
from stages.lib.stage import stage

if TYPE_CHECKING:
    import numpy


@dataclass
class Params:
    """params/dataset/glyphs.yaml."""

    seed: int = parameter(help="seed of all classes and images")
    classes: dict[str, int] = parameter(help="number of classes of train (base), val and test (novel)")
    images: int = parameter(help="images a class")
    side: int = parameter(help="height and width in pixels")
    smoothing: float = parameter(help="width of the Gaussian that smooths a class's field, in pixels")
    shift: float = parameter(help="standard deviation of the shift along each axis, in pixels")
    rotation: float = parameter(help="standard deviation of the rotation, in degrees")
    contrast: float = parameter(help="standard deviation of the contrast around 1")
    offset: float = parameter(help="standard deviation of the offset, in standard deviations of the field")
    noise: float = parameter(help="standard deviation of the pixels' noise, in the same unit")
    levels: int = parameter(help="grey levels a standard deviation of the field takes")

    def check(self) -> None:
        """Ranges that types do not tell."""
        if set(self.classes) != {"train", "val", "test"} or min(self.classes.values()) < 1:
            raise StageError(f"params.classes={dict(self.classes)}: expected train, val and test, each 1 or more")
        for name, least in (("seed", 0), ("images", 1), ("side", 4), ("levels", 1)):
            if getattr(self, name) < least:
                raise StageError(f"params.{name}={getattr(self, name)}: expected {least} or more")
        for name in ("smoothing", "shift", "rotation", "contrast", "offset", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise StageError(f"params.{name}={getattr(self, name)}: expected a finite number of 0 or more")


@dataclass
class Config:
    """What the stage needs."""

    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/glyphs"})
def main(cfg: Config) -> None:
    """Generate all glyphs and write runs/prepare/glyphs/{train,val,test}.npz with a manifest."""
    import numpy

    from stages.prepare.few_shot_output import sizes, write_class_splits

    classes = {split: [f"{split}_{i:03d}" for i in range(count)] for split, count in cfg.params.classes.items()}
    parts = {}
    for split, names in classes.items():
        x = numpy.concatenate([glyphs(name, cfg.params) for name in names])
        parts[split] = (x[:, None], numpy.repeat(numpy.arange(len(names)), cfg.params.images))
    about = {"source": "sample", "files": "generated sample", "split": sizes(classes)}
    write_class_splits("glyphs", parts, classes, limit={}, inputs=[], config=cfg, about=about)


def glyphs(name: str, params: Params) -> numpy.ndarray:
    """All images uint8 [images, side, side] of a class, from seeds of its own."""
    import numpy
    from scipy.ndimage import gaussian_filter

    from stages.lib.runtime import derive_seed

    random = numpy.random.RandomState(derive_seed(params.seed, "glyph", name) % 2**32)
    shape = (params.side, params.side)
    pattern = gaussian_filter(random.normal(size=shape), params.smoothing, mode="wrap")
    pattern = (pattern - pattern.mean()) / pattern.std()
    count = (params.images, 1, 1)
    shift = params.shift * random.normal(size=(2, *count))
    angle = numpy.radians(params.rotation) * random.normal(size=count)
    gain, level = 1 + params.contrast * random.normal(size=count), params.offset * random.normal(size=count)
    values = gain * moved(pattern, shift, angle) + level + params.noise * random.normal(size=(params.images, *shape))
    return numpy.clip(numpy.rint(params.levels * values) + 128, 0, 255).astype(numpy.uint8)


def moved(pattern: numpy.ndarray, shift: numpy.ndarray, angle: numpy.ndarray) -> numpy.ndarray:
    """The pattern [S, S] rotated about its centre and shifted [2, n, 1, 1], bilinear, wrapped around the edges: [n, S, S]."""
    import numpy

    side = len(pattern)
    grid = numpy.arange(side) - (side - 1) / 2
    rows, columns = grid[:, None], grid[None, :]
    at = (
        numpy.cos(angle) * rows - numpy.sin(angle) * columns + (side - 1) / 2 - shift[0],
        numpy.sin(angle) * rows + numpy.cos(angle) * columns + (side - 1) / 2 - shift[1],
    )
    low = [numpy.floor(place).astype(int) for place in at]
    part = [place - corner for place, corner in zip(at, low, strict=True)]
    total = 0.0
    for down in (0, 1):
        for right in (0, 1):
            weight = (part[0] if down else 1 - part[0]) * (part[1] if right else 1 - part[1])
            total = total + weight * pattern[(low[0] + down) % side, (low[1] + right) % side]
    return total


if __name__ == "__main__":
    main()
