"""DIV2K (high-resolution photographs, or the embedded sample in its layout) to one array of pixels a split."""

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
    """params/dataset/div2k.yaml."""

    val_count: dict[str, int] = parameter(help="by source: the last so many training photographs by name are val")
    factors: list[int] = parameter(help="scales of which low-resolution images are read, where there are some")
    least_side: int = parameter(help="smallest height and width of a photograph")
    max_bytes: int = parameter(help="largest file that is read")
    max_pixels: int = parameter(help="largest image that is decoded, width times height")
    official: dict[str, int] = parameter(help="photographs of the publisher's train and valid")
    sample_sha256: str = parameter(help="one SHA-256 over those of the embedded sample's files")


@dataclass
class Config:
    """What the stage needs."""

    restoration_source: str = MISSING
    threads: int = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/div2k"})
def main(cfg: Config) -> None:
    """Read data/<source>/div2k and write runs/prepare/div2k/{train,val,test}.npy, index.csv and a manifest.

    The publisher's validation set is the test split; val is held out from train.
    """
    from stages.prepare import images, photographs, provenance

    params, source = cfg.params, cfg.restoration_source
    root = provenance.folder(source, "div2k")
    count = images.by_source(params.val_count, source, "val_count")
    entries = list_entries(root, params.factors, count)
    limits = images.Limits(params.max_bytes, params.max_pixels)
    facts = photographs.inspect("div2k", root, entries, limits, params.least_side, cfg.threads)
    counted = classify(entries, params.official)
    origin = photographs.Origin(source, root, params.sample_sha256, counted, photographs.ignored(root, entries))
    division = f"test is the publisher's validation set; val is the last {count} photographs of train"
    photographs.write("div2k", entries, facts, origin, params, division)


def list_entries(root: Path, factors: list[int], val_count: int) -> list[Entry]:
    """The photographs of both folders with their low-resolution images. Raises StageError for what is missing."""
    from stages.lib.restoration.sets import CLEAN
    from stages.prepare.photographs import Entry, held_out, partners, stems

    entries = []
    for origin in ("train", "valid"):
        folder = root / f"DIV2K_{origin}_HR"
        found = stems(folder)
        if not found:
            raise StageError(f"{folder}: holds no image; expected 0001.png and so on")
        held = held_out(list(found), val_count, folder) if origin == "train" else set()
        splits = {name: "val" if name in held else "train" if origin == "train" else "test" for name in found}
        entries += [Entry(f"{folder.name}/{file}", splits[name], "DIV2K", name, CLEAN) for name, file in found.items()]
        for factor in factors:
            low = root / f"DIV2K_{origin}_LR_bicubic" / f"X{factor}"
            if low.is_dir():
                files = partners(low, found, stems(low, rf"(.+)x{factor}"), f"image x{factor}")
                path = low.relative_to(root).as_posix()
                entries += [
                    Entry(f"{path}/{file}", splits[name], "DIV2K", name, f"x{factor}") for name, file in zip(found, files)
                ]
    return entries


def classify(entries: list[Entry], official: dict[str, int]) -> tuple[str, str]:
    """(official, subset or re-made; why) from the names of the photographs: 0001 onwards, valid after train."""
    from stages.lib.restoration.sets import CLEAN
    from stages.prepare.photographs import count_kind

    clean = [entry for entry in entries if entry.kind == CLEAN]
    found = [f"{'valid' if entry.split == 'test' else 'train'} {entry.name}" for entry in clean]
    train, valid = official["train"], official["valid"]
    wanted = [f"train {number:04d}" for number in range(1, train + 1)]
    wanted += [f"valid {number:04d}" for number in range(train + 1, train + valid + 1)]
    tested = sum(entry.split == "test" for entry in clean)
    return count_kind(found, wanted, f"{len(clean) - tested} + {tested} photographs")


if __name__ == "__main__":
    main()
