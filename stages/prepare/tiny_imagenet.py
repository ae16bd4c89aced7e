"""Tiny ImageNet (tiny-imagenet-200, or the embedded sample in its layout) to one file a split and an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    from stages.prepare.images import Facts, Item


@dataclass
class Official:
    """Sizes of the publisher's set."""

    classes: int = parameter(help="classes")
    train_per_class: int = parameter(help="training images of every class")
    val_per_class: int = parameter(help="validation images of every class")


@dataclass
class Params:
    """params/dataset/tiny_imagenet.yaml."""

    folder: str = parameter(help="the publisher's folder below data/<source>/tiny_imagenet")
    size: int = parameter(help="height and width of every image")
    held_out: dict[str, str] = parameter(help="by source, which training images are val: random, or the last by number")
    val_share: dict[str, float] = parameter(help="by source: val's share of every class's training images")
    split_seed: int = parameter(help="seed of random divisions")
    limit: dict[str, int | None] = parameter(help="at most so many images of train, val, test; null for all")
    max_bytes: int = parameter(help="largest file that is read")
    damaged: list[str] = parameter(help="names of files to leave out if they cannot be decoded")
    official: Official = field(default_factory=Official)
    sample_sha256: str = parameter(help="one SHA-256 over those of the embedded sample's files")

    def check(self) -> None:
        """Ranges that types do not tell."""
        for source, share in self.val_share.items():
            if not 0 < share < 1:
                raise StageError(f"params.val_share.{source}={share}: expected a share between 0 and 1")
        for source, how in self.held_out.items():
            if how not in ("random", "last"):
                raise StageError(f"params.held_out.{source}={how}: expected random or last")
        if self.size < 1:
            raise StageError(f"params.size={self.size}: expected 1 or more")


@dataclass
class Config:
    """What the stage needs."""

    image_source: str = MISSING
    threads: int = MISSING
    params: Params = field(default_factory=Params)


ANNOTATIONS = Path("val/val_annotations.txt")


@stage(Config, files={"params": "dataset/tiny_imagenet"})
def main(cfg: Config) -> None:
    """Read tiny-imagenet-200 below data/<source>/tiny_imagenet and write runs/prepare/tiny_imagenet/{train,val,test}.npz,
    index.csv and a manifest. The publisher's validation set is the test split; val is held out from train."""
    from stages.lib import artifacts
    from stages.lib.data import PREPARED
    from stages.prepare import images, provenance
    from stages.prepare.splits import write_splits

    params = cfg.params
    root = provenance.folder(cfg.image_source, "tiny_imagenet") / params.folder
    wnids, items, ignored = list_items(root)
    inputs = [root / name for name in ("wnids.txt", ANNOTATIONS, "words.txt") if (root / name).is_file()]
    limits = images.Limits(params.max_bytes, params.size**2)
    facts = images.inspect("tiny_imagenet", root, items, limits, cfg.threads)
    kept, left_out = images.leave_out_damaged(items, facts, params.damaged, root)
    check_size(kept, root, params.size)
    counted = classify(items, params.official)
    kind, why = images.settle_origin(cfg.image_source, root, kept, inputs, params.sample_sha256, counted)
    print(f"tiny_imagenet: {len(items)} images of {len(wnids)} classes in {root} ({kind}: {why})", flush=True)
    how, share = (images.by_source(getattr(params, name), cfg.image_source, name) for name in ("held_out", "val_share"))
    splits = images.hold_out([item for item, _ in kept], share, params.split_seed, how)
    about = images.about_files(kept, left_out, ignored)
    images.say("tiny_imagenet", about)
    folder = PREPARED / "tiny_imagenet"
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    images.write_index(folder / "index.csv", kept, splits, wnids)
    write_splits(
        "tiny_imagenet",
        {split: read_pixels(root, kept, splits, split, wnids, params.size) for split in ("train", "val", "test")},
        limit=params.limit,
        seed=params.split_seed,
        classes=wnids,
        inputs=inputs,
        config={"source": cfg.image_source, "params": asdict(params)},
        about={
            "source": cfg.image_source,
            "root": root.as_posix(),
            "files": kind,
            "files_because": why,
            "words": read_words(root, wnids),
            "index_sha256": artifacts.sha256(folder / "index.csv"),
            "split": f"test is the publisher's val; val is held out from train ({how}, {share:g} of a class)",
            "about": about,
        },
    )
    images.drop_scratch("tiny_imagenet")


def list_items(root: Path) -> tuple[list[str], list[Item], list[str]]:
    """(wnids, images, ignored files) of wnids.txt, train/ and val/. Raises StageError where they disagree."""
    from stages.prepare import images

    wnids = read_wnids(root / "wnids.txt")
    for wnid in images.class_folders(root / "train"):
        if wnid not in wnids:
            raise StageError(f"{root / 'train' / wnid}: unknown wnid; wnids.txt has no such class")
    items, ignored = images.folder_items(root, "train", wnids)
    annotated = read_annotations(root / ANNOTATIONS, wnids) if (root / ANNOTATIONS).is_file() else None
    val, others = val_items(root, annotated, wnids)
    if lost := sorted(set(wnids) - {item.wnid for item in val}):
        raise StageError(f"{root / 'val'}: no image of class {lost[0]}; fetch the validation set again")
    images.refuse_duplicates([*items, *val], root)
    return wnids, [*items, *val], [*ignored, *others]


def read_wnids(path: Path) -> list[str]:
    """The classes, sorted: the order of labels. Raises StageError naming the line that is wrong."""
    from stages.lib.artifacts import read_bytes
    from stages.prepare.images import WNID

    lines = read_bytes(path).decode("ascii", "replace").split()
    for number, wnid in enumerate(lines, 1):
        if not WNID.fullmatch(wnid):
            raise StageError(f"{path}: line {number}: {wnid[:40]!r}; expected a wnid, n and eight digits")
        if wnid in lines[: number - 1]:
            raise StageError(f"{path}: line {number}: {wnid} a second time; expected every class once")
    if not lines:
        raise StageError(f"{path}: empty; expected a wnid a line")
    return sorted(lines)


def read_words(root: Path, wnids: Sequence[str]) -> dict[str, str]:
    """What the classes are called, from words.txt if it is there."""
    from stages.lib.artifacts import read_bytes

    if not (root / "words.txt").is_file():
        return {}
    lines = read_bytes(root / "words.txt").decode("utf-8", "replace").splitlines()
    found = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return {wnid: found[wnid].strip() for wnid in wnids if wnid in found}


def read_annotations(path: Path, wnids: Sequence[str]) -> dict[str, str]:
    """The wnid of every validation image by file name; the boxes are not used. Raises StageError naming the line."""
    from stages.lib.artifacts import read_bytes
    from stages.prepare.images import safe_name

    found: dict[str, str] = {}
    for number, line in enumerate(read_bytes(path).decode("utf-8", "surrogateescape").splitlines(), 1):
        where, words = f"{path}: line {number}", line.split("\t")
        if len(words) < 2:
            raise StageError(f"{where}: expected a file name, a tab and a wnid")
        name, wnid = safe_name(words[0], where), words[1].strip()
        if wnid not in wnids:
            raise StageError(f"{where}: unknown wnid {wnid!r}; expected one of wnids.txt")
        if name in found:
            raise StageError(f"{where}: {name} a second time; an image has one class")
        found[name] = wnid
    return found


def val_items(root: Path, annotated: dict[str, str] | None, wnids: Sequence[str]) -> tuple[list[Item], list[str]]:
    """Validation images, in val/images/ with labels from the annotations or in class folders; and ignored files."""
    from stages.prepare import images

    flat = root / "val" / "images"
    if not flat.is_dir():
        for wnid in images.class_folders(root / "val"):
            if wnid not in wnids:
                raise StageError(f"{root / 'val' / wnid}: unknown wnid; wnids.txt has no such class")
        items, ignored = images.folder_items(root, "val", wnids)
        _check_labels(root, items, annotated or {})
        return items, ignored
    if any(entry.is_dir() and entry.name != "images" for entry in flat.parent.iterdir()):
        raise StageError(f"{flat}: beside class folders; expected either val/images/ or folders of classes, not both")
    if annotated is None:
        raise StageError(f"{root / ANNOTATIONS}: not found; it holds the labels of val/images/")
    names, others = images.image_names(flat)
    if lost := sorted(annotated.keys() - set(names)):
        raise StageError(f"{flat / lost[0]}: not found, though {ANNOTATIONS.name} lists it; fetch it again")
    for name in names:
        if name not in annotated:
            raise StageError(f"{flat / name}: no label in {ANNOTATIONS.name}; remove it or fetch the list again")
    return [images.Item(f"val/images/{name}", annotated[name], "val") for name in names], [f"val/images/{n}" for n in others]


def _check_labels(root: Path, items: Sequence[Item], annotated: dict[str, str]) -> None:
    """Where class folders and annotations are both there, they must agree."""
    for item in items:
        wnid = annotated.get(Path(item.path).name, item.wnid)
        if wnid != item.wnid:
            raise StageError(f"{root / item.path}: {ANNOTATIONS.name} says {wnid}; move it to val/{wnid}/")


def check_size(kept: Sequence[tuple[Item, Facts]], root: Path, size: int) -> None:
    """Raises StageError for an image that is not size x size."""
    for item, fact in kept:
        if (fact.width, fact.height) != (size, size):
            raise StageError(f"{root / item.path}: {fact.width} x {fact.height} pixels; expected {size} x {size} (params.size)")


def classify(items: Sequence[Item], official: Official) -> tuple[str, str]:
    """(official, subset or re-made; why), from the numbers of images: the publisher lists no hash a file."""
    from stages.prepare import images, provenance

    counts = images.class_counts(items)
    wanted = {"train": official.train_per_class, "val": official.val_per_class}
    text = f"{len(counts['train'])} classes, {counts['train'].total()} + {counts['val'].total()} images"
    for origin, most in wanted.items():
        for wnid, found in sorted(counts[origin].items()):
            if found > most:
                return provenance.REMADE, f"class {wnid} has {found} images in {origin}, officially {most}"
    if len(counts["train"]) > official.classes:
        return provenance.REMADE, f"{text}; officially {official.classes} classes"
    whole = all(counts[origin].total() == official.classes * most for origin, most in wanted.items())
    totals = " + ".join(str(official.classes * most) for most in wanted.values())
    return (provenance.OFFICIAL, text) if whole else (images.SUBSET, f"{text} of {official.classes} classes, {totals}")


def read_pixels(
    root: Path, kept: Sequence[tuple[Item, Facts]], splits: Sequence[str], split: str, wnids: Sequence[str], size: int
) -> Any:
    """(x uint8 [N, 3, size, size], y int64 [N]) of one split, in RGB whatever the file's mode."""
    import numpy

    from stages.lib.artifacts import read_bytes
    from stages.lib.decoding import decode, to_rgb

    chosen = [item for (item, _), found in zip(kept, splits) if found == split]
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    x = numpy.empty((len(chosen), 3, size, size), numpy.uint8)
    for place, item in enumerate(chosen):
        path = root / item.path
        x[place] = numpy.asarray(to_rgb(decode(read_bytes(path), path, size * size))).transpose(2, 0, 1)
    return x, numpy.array([labels[item.wnid] for item in chosen], dtype=numpy.int64)


if __name__ == "__main__":
    main()
