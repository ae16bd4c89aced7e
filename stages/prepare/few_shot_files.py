"""Few-shot sets in their publishers' layouts (mini-ImageNet, tiered-ImageNet, CUB, CIFAR-FS) to one file a group of classes.

    python stages/prepare/few_shot_files.py dataset=mini_imagenet source=publisher

The files bring their own division into base, validation and novel classes, or follow the published rule; it is compared with
the published one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    import numpy

    from stages.prepare.few_shot_layouts import Found

ALL = ("train", "val", "test")


@dataclass
class Params:
    """params/dataset/<dataset>.yaml."""

    layout: str = parameter(help="csv (mini-ImageNet), pickles (tiered-ImageNet), cub, or folders (CIFAR-FS)")
    folder: str = parameter(help="the publisher's folder below data/<source>/<dataset>")
    resize: int = parameter(help="the shorter side becomes so many pixels")
    size: int = parameter(help="side of the central square that is kept")
    classes: dict[str, list[str]] = parameter(
        help="the published division by class names; empty where a rule or numbers are all"
    )
    every: dict[str, list[int]] = parameter(help="cub: first number and step of the class numbers of each part")
    official: dict[str, list[int]] = parameter(help="classes and images of each part of the publisher's set; 0: not known")
    limit: dict[str, int | None] = parameter(help="at most so many images of each class of train, val, test; null for all")
    max_bytes: int = parameter(help="largest file that is read")
    max_pixels: int = parameter(help="largest image that is decoded")

    def check(self) -> None:
        """Ranges that types do not tell."""
        if self.layout not in ("csv", "pickles", "cub", "folders"):
            raise StageError(f"params.layout={self.layout}: expected csv, pickles, cub or folders")
        if not 1 <= self.size <= self.resize:
            raise StageError(f"params.size={self.size}: expected 1 to resize={self.resize}")
        if set(self.official) != set(ALL):
            raise StageError(f"params.official={dict(self.official)}: expected numbers for train, val and test")


@dataclass
class Config:
    """What the stage needs."""

    dataset: str = parameter(help="a few-shot set, as its file in params/dataset")
    source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/{dataset}"})
def main(cfg: Config) -> None:
    """Read data/<source>/<dataset>/<folder> and write runs/prepare/<dataset>/{train,val,test}.npz with a manifest."""
    from stages.lib.episodes import check_classes
    from stages.prepare import few_shot_layouts, provenance
    from stages.prepare.few_shot_output import sizes, write_class_splits

    root = provenance.folder(cfg.source, cfg.dataset) / cfg.params.folder
    found = {part: few_shot_layouts.READERS[cfg.params.layout](root, part, cfg.params) for part in ALL}
    classes = {part: sorted({name for name, _ in one.items}) for part, one in found.items()}
    check_classes(classes, f"{root}: classes")
    kind, why = judge(found, classes, cfg.params)
    print(f"{cfg.dataset}: {root} ({kind}: {why})", flush=True)
    write_class_splits(
        cfg.dataset,
        {part: pixels(one, classes[part], cfg.params) for part, one in found.items()},
        classes,
        limit=cfg.params.limit,
        inputs=sorted({path for one in found.values() for path in one.lists}),
        config=cfg,
        about={"source": cfg.source, "files": kind, "files_because": why, "split": sizes(classes)},
    )


def judge(found: dict[str, Found], classes: dict[str, list[str]], params: Params) -> tuple[str, str]:
    """(official or re-made, why): numbers of classes and images, and the classes where they are published."""
    from stages.prepare import provenance

    for part, one in found.items():
        for number, wanted, what in zip(
            (len(classes[part]), len(one.items)), params.official[part], ("classes", "images"), strict=True
        ):
            if wanted and number != wanted:
                return provenance.REMADE, f"{part} has {number} {what}, the publisher's {wanted}"
        if params.classes and sorted(params.classes.get(part, [])) != classes[part]:
            return provenance.REMADE, f"{part} has other classes than the published division"
    return provenance.OFFICIAL, "the publisher's numbers" + " and classes" * bool(params.classes)


def pixels(found: Found, names: list[str], params: Params) -> tuple[Any, Any]:
    """(x uint8 [N, 3, size, size], y int64 [N]) of one part, class by class."""
    import numpy

    items = sorted(found.items, key=lambda item: item[0])  # stable: a class's images stay in the publisher's order
    x = numpy.empty((len(items), 3, params.size, params.size), numpy.uint8)
    for row, (_, read) in enumerate(items):
        x[row] = squared(*read(), params)
    return x, numpy.array([names.index(name) for name, _ in items], numpy.int64)


def squared(content: bytes, where: object, params: Params) -> numpy.ndarray:
    """The central square uint8 [3, size, size] of an image file, resized before. Raises StageError for a damaged one."""
    import numpy
    from PIL import Image

    from stages.lib.decoding import decode, to_rgb

    image = to_rgb(decode(content, where, params.max_pixels))
    scale = params.resize / min(image.size)
    width, height = (max(params.resize, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - params.size) // 2, (height - params.size) // 2
    cut = image.crop((left, top, left + params.size, top + params.size))
    return numpy.asarray(cut).transpose(2, 0, 1)


if __name__ == "__main__":
    main()
