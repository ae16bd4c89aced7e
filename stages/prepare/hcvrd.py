"""HCVRD (Zhuang et al. 2018), or the drawn sample in its files, to relations, images and web images of its labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.checks import at_least, between, share
from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    from stages.prepare.hcvrd_sets import Annotations
    from stages.prepare.sensor_output import Files


@dataclass
class Params:
    """params/dataset/hcvrd.yaml."""

    val_every: int = parameter(help="every so many of the training images are val, if no label loses its last one")
    val_labels_every: int = parameter(help="every so many of the zero-shot labels are val's")
    tail_below: int = parameter(help="labels with fewer training instances are the long tail")
    dropped: dict[str, float] = parameter(help="by source: share of annotations that may be unusable")
    side: dict[str, int] = parameter(help="by source: side of the images that are stored; 0 stores none")
    tile: int = parameter(help="side of a web image")
    sheet: list[int] = parameter(default_factory=list, help="rows and columns of web images on a label's sheet")
    max_bytes: int = parameter(help="largest file that is read")
    official: dict[str, int] = parameter(default_factory=dict, help="the publisher's counts")
    sample_sha256: str = parameter(help="one SHA-256 over those of the embedded sample's files")

    def check(self) -> None:
        """Ranges that types do not tell."""
        at_least("val_every", self.val_every, 2)
        at_least("val_labels_every", self.val_labels_every, 2)
        at_least("tail_below", self.tail_below, 1)
        between("tile", self.tile, 1, 4096)
        if len(self.sheet) != 2 or min(self.sheet) < 1:
            raise StageError(f"params.sheet={list(self.sheet)}: expected rows and columns, 1 or more")
        for source, value in self.dropped.items():
            share(f"dropped.{source}", value)


@dataclass
class Config:
    """What the stage needs."""

    relation_source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/hcvrd"})
def main(cfg: Config) -> None:
    """Read data/<source>/hcvrd and write runs/prepare/hcvrd/{train,val,test,labels,web}.npz and a manifest.

    Boxes become x1, y1, x2, y2. Zero-shot relations are val's or test's by their label, whatever list their image is in.
    Without final_data.json, images.zip or web.zip what is there is prepared, and the manifest says so.
    """
    from stages.prepare import hcvrd_sets, provenance
    from stages.prepare.images import by_source
    from stages.prepare.sensor_output import Files

    params, source = cfg.params, cfg.relation_source
    files = Files(provenance.folder(source, "hcvrd"), params.max_bytes)
    side, dropped = by_source(params.side, source, "side"), by_source(params.dropped, source, "dropped")
    read, about, pixels = read_all(files, params, side, dropped)
    labels, relations = hcvrd_sets.divide(read, params.val_every, params.val_labels_every)
    arrays = {name: hcvrd_sets.split_arrays(part, read, labels, pixels) for name, part in relations.items()}
    arrays["labels"] = hcvrd_sets.label_arrays(labels, relations["train"])
    sheets = optional(files, "web.zip")
    arrays["web"] = hcvrd_sets.web_arrays(sheets, labels, params.tile, tuple(params.sheet), files.root)
    write(files, cfg, arrays, hcvrd_sets.names_of(labels), about)


def optional(files: Files, name: str) -> bytes | None:
    """A file's content, None where there is none."""
    return files.read(name) if (files.root / name).is_file() else None


def read_all(files: Files, params: Params, side: int, dropped: float) -> tuple[Annotations, dict[str, Any], dict[int, Any]]:
    """(usable annotations and lists, what the manifest says of them, images by id). Raises StageError for too much bad."""
    from stages.prepare import hcvrd_files as reader
    from stages.prepare import hcvrd_sets

    root, content = files.root, optional(files, "final_data.json")
    seen = None if content is None else reader.read_relations(content, root / "final_data.json")
    zero_shot = reader.read_relations(files.read("zeroshot_data.json"), root / "zeroshot_data.json")
    lists = {name: reader.read_ids(files.read(f"{name}.txt"), root / f"{name}.txt") for name in ("train", "test")}
    tail = reader.read_tail(files.read("long_tail_indexes.mat"), root / "long_tail_indexes.mat")
    pixels = hcvrd_sets.read_images([optional(files, name) for name in ("images.zip", "images2.zip")], side, root)
    sizes = dict.fromkeys(pixels, (side, side))
    read, bad = hcvrd_sets.usable(seen, zero_shot, lists["train"], lists["test"], sizes)
    total = len(zero_shot) + len(seen or [])
    if len(bad) > dropped * total:
        raise StageError(
            f"{root}: {len(bad)} of {total} annotations are unusable, more than params.dropped allows; first {bad[0]}"
        )
    about = {"statistics": reader.statistics(zero_shot, lists["train"], lists["test"]), "dropped": bad[:20],
             "number_dropped": len(bad), "long_tail_indices": len(tail),
             "absent": [name for name, held in (("final_data.json", seen), ("images.zip", pixels)) if not held]}  # fmt: skip
    return read, about, pixels


def write(files: Files, cfg: Config, arrays: dict[str, dict[str, Any]], names: dict[str, list[str]], about: dict) -> None:
    """Write one npz a part and the manifest. Raises StageError for files of wrong origin."""
    from stages.lib import artifacts
    from stages.lib.data import PREPARED, SPLITS
    from stages.prepare import provenance, sensor_output

    params, source, folder = cfg.params, cfg.relation_source, PREPARED / "hcvrd"
    kind, why = "generated sample", "as pinned; no images of relations ship with any dependency"
    if files.fingerprint() != params.sample_sha256:
        known = {name: about["statistics"].get(name, 0) for name in params.official}
        kind, why = sensor_output.count_kind(known, params.official)
        if about["absent"] and kind == provenance.OFFICIAL:
            kind, why = "subset", f"{why}; without {', '.join(about['absent'])}"
    origin = provenance.EMBEDDED if kind == "generated sample" else provenance.REMADE
    provenance.refuse_misplaced(origin, source, files.root)
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    paths: list[Path] = []
    for name, part in arrays.items():
        paths.append(folder / f"{name}.npz")
        artifacts.write_npz(paths[-1], **part)
    labels = arrays["labels"]["kind"]
    counts = {split: len(arrays[split]["ids"]) for split in SPLITS}
    print(f"hcvrd: {counts} images, {len(labels)} labels in {files.root} ({kind}: {why})", flush=True)
    artifacts.write_manifest(
        folder / "manifest.json", outputs=paths, config={"source": source, "params": asdict(params)}, dataset="hcvrd",
        source=source, root=files.root.as_posix(), files=kind, files_because=why, sha256=files.fingerprint(), **names,
        shape=list(arrays["train"]["x"].shape[1:]), counts=counts, tail_below=params.tail_below,
        labels={"seen": int((labels == 0).sum()), "val": int((labels == 1).sum()), "test": int((labels == 2).sum())},
        relations={name: len(arrays[name]["image"]) for name in SPLITS}, about=about,
        split="the publisher's lists; val is part of train; zero-shot relations by label",
    )  # fmt: skip


if __name__ == "__main__":
    main()
