"""Rainy and clean photographs (RainTrainL, Rain100L, Rain100H, or the embedded sample in their layouts)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    from stages.prepare.photographs import Entry


@dataclass
class Params:
    """params/dataset/rain.yaml."""

    val_count: dict[str, int] = parameter(help="by source: the last so many pairs of each training set are val")
    cropped: str = parameter(help="what a set in the folders inputcrop and cleancrop is called")
    least_side: int = parameter(help="smallest height and width of a photograph")
    max_bytes: int = parameter(help="largest file that is read")
    max_pixels: int = parameter(help="largest image that is decoded, width times height")
    official: dict[str, int] = parameter(help="pairs of the publishers' sets")
    sample_sha256: str = parameter(help="one SHA-256 over those of the embedded sample's files")


@dataclass
class Config:
    """What the stage needs."""

    restoration_source: str = MISSING
    threads: int = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/rain"})
def main(cfg: Config) -> None:
    """Read data/<source>/rain and write runs/prepare/rain/{train,val,test}.npy, index.csv and a manifest.

    A set with a folder `rainy` is a test set, one with pairs side by side a training set.
    """
    from stages.prepare import images, photographs, provenance

    params, source = cfg.params, cfg.restoration_source
    root = provenance.folder(source, "rain")
    count = images.by_source(params.val_count, source, "val_count")
    entries = list_entries(root, params.cropped, count)
    limits = images.Limits(params.max_bytes, params.max_pixels)
    facts = photographs.inspect("rain", root, entries, limits, params.least_side, cfg.threads)
    counted = photographs.count_sets(entries, params.official)
    origin = photographs.Origin(source, root, params.sample_sha256, counted, photographs.ignored(root, entries))
    division = f"val is the last {count} pairs of a training set"
    photographs.write("rain", entries, facts, origin, params, division)


def list_entries(root: Path, cropped: str, val_count: int) -> list[Entry]:
    """The images of all sets below the root. Raises StageError for what is missing, and if there is nothing."""
    entries = []
    if (root / "inputcrop").is_dir():
        entries += list_pairs(root, cropped, {"rainy": ("inputcrop", "(.+)"), "clean": ("cleancrop", "(.+)")})
    for folder in sorted(place for place in root.iterdir() if place.is_dir()):
        name = folder.name
        if (folder / "rainy").is_dir():
            places = {"rainy": (f"{name}/rainy", "rain-(.+)"), "clean": (name, "norain-(.+)")}
            entries += list_pairs(root, name, places)
        elif any(folder.glob("norain-*")):
            places = {"rainy": (name, "rain-(.+)"), "clean": (name, "norain-(.+)"), "streaks": (name, "rainstreak-(.+)")}
            entries += list_pairs(root, name, places, val_count)
    if not entries:
        raise StageError(f"{root}: holds no rain set; expected RainTrainL/norain-1.png, Rain100L/rainy/rain-001.png or alike")
    return entries


def list_pairs(root: Path, group: str, places: dict[str, tuple[str, str]], val_count: int = 0) -> list[Entry]:
    """Images of one set, by kind: (folder below the root, pattern of the name). With val_count it is a training set.

    Layers of streaks are read if there are any. Raises StageError for an image without its partner.
    """
    from stages.prepare.photographs import Entry, held_out, partners, stems

    found = {kind: stems(root / folder, pattern) for kind, (folder, pattern) in places.items()}
    names = list(found["clean"])
    if not names:
        raise StageError(f"{root / places['clean'][0]}: holds no clean image; fetch {group} again")
    held = held_out(names, val_count, root / places["clean"][0]) if val_count else set()
    partners(root / places["clean"][0], found["rainy"], found["clean"], "clean image")
    entries = []
    for kind, (folder, _) in places.items():
        if kind == "streaks" and not found[kind]:
            continue
        files = partners(root / folder, names, found[kind], f"{kind} image")
        splits = ["test" if not val_count else "val" if name in held else "train" for name in names]
        entries += [Entry(f"{folder}/{file}", split, group, name, kind) for name, file, split in zip(names, files, splits)]
    return entries


if __name__ == "__main__":
    main()
