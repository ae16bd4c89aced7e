"""Test sets of super-resolution and denoising (Set5, Set14, B100, Urban100, CBSD68, ..., or the embedded sample)."""

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
    """params/dataset/benchmarks.yaml."""

    factors: list[int] = parameter(help="scales of which low-resolution images are read, where there are some")
    least_side: int = parameter(help="smallest height and width of a photograph")
    max_bytes: int = parameter(help="largest file that is read")
    max_pixels: int = parameter(help="largest image that is decoded, width times height")
    official: dict[str, int] = parameter(help="images of the publishers' sets")
    sample_sha256: str = parameter(help="one SHA-256 over those of the embedded sample's files")


@dataclass
class Config:
    """What the stage needs."""

    benchmark_source: str = MISSING
    threads: int = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/benchmarks"})
def main(cfg: Config) -> None:
    """Read data/<source>/benchmarks and write runs/prepare/benchmarks/: test.npy, index.csv and a manifest.

    A set is a group of the only split, test.
    """
    from stages.prepare import images, photographs, provenance

    params, source = cfg.params, cfg.benchmark_source
    root = provenance.folder(source, "benchmarks")
    entries = [entry for folder in set_folders(root) for entry in list_set(root, folder, params.factors)]
    limits = images.Limits(params.max_bytes, params.max_pixels)
    facts = photographs.inspect("benchmarks", root, entries, limits, params.least_side, cfg.threads)
    counted = photographs.count_sets(entries, params.official)
    origin = photographs.Origin(source, root, params.sample_sha256, counted, photographs.ignored(root, entries))
    photographs.write("benchmarks", entries, facts, origin, params, "all images are test", ["test"])


def set_folders(root: Path) -> list[Path]:
    """Folders of test sets, in root/benchmark and in the root itself. Raises StageError for none and for a set twice."""
    found: dict[str, Path] = {}
    for place in (root / "benchmark", root):
        for folder in sorted(place.iterdir()) if place.is_dir() else []:
            if not folder.is_dir() or folder == root / "benchmark" or folder.name.endswith("_LR") or folder.name[0] == ".":
                continue
            if folder.name in found:
                raise StageError(f"{folder}: the set is in {found[folder.name]} too; remove one of them")
            found[folder.name] = folder
    if not found:
        raise StageError(f"{root}: holds no test set; expected benchmark/<set>/HR/*.png or <set>/*.png")
    return list(found.values())


def list_set(root: Path, folder: Path, factors: list[int]) -> list[Entry]:
    """The images of one set, in HR/ with LR_bicubic/X<r>/<name>x<r>.png, or flat with <set>_LR/image_SRF_<r>/ beside it.

    The latter are numbered; number i belongs to the i-th image by name. Raises StageError for what is missing.
    """
    from stages.lib.restoration.sets import CLEAN
    from stages.prepare.photographs import Entry, partners, stems

    high = folder / "HR" if (folder / "HR").is_dir() else folder
    names = stems(high)
    if not names:
        raise StageError(f"{high}: holds no image; fetch the set again or remove its folder")
    found = [(CLEAN, high, list(names.values()))]
    for factor in factors:
        kind, low = f"x{factor}", folder / "LR_bicubic" / f"X{factor}"
        numbered = folder.with_name(f"{folder.name}_LR") / f"image_SRF_{factor}"
        if low.is_dir():
            found.append((kind, low, partners(low, names, stems(low, rf"(.+)x{factor}"), f"image {kind}")))
        elif numbered.is_dir():
            wanted = [f"{number:03d}" for number in range(1, len(names) + 1)]
            files = partners(numbered, wanted, stems(numbered, rf"img_(\d+)_SRF_{factor}_LR"), f"image {kind} with number")
            found.append((kind, numbered, files))
    return [
        Entry((place / file).relative_to(root).as_posix(), "test", folder.name, name, kind)
        for kind, place, files in found
        for name, file in zip(names, files)
    ]


if __name__ == "__main__":
    main()
