"""ImageNet (ILSVRC2012 in the publisher's layout, or the embedded sample) to an index of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    from stages.prepare.imagenet_devkit import Devkit
    from stages.prepare.images import Facts, Item


@dataclass
class Official:
    """Sizes of the publisher's set."""

    classes: int = parameter(help="classes")
    train: int = parameter(help="training images")
    val: int = parameter(help="validation images")
    train_per_class: int = parameter(help="most training images of a class")
    val_per_class: int = parameter(help="validation images of every class")


@dataclass
class Params:
    """params/dataset/imagenet.yaml."""

    devkit: str = parameter(help="folder of the development kit below data/<source>/imagenet")
    val_share: dict[str, float] = parameter(help="by source: share of the training images held out as val; test is val/")
    split_seed: int = parameter(help="seed of that division")
    max_bytes: int = parameter(help="largest file that is read")
    max_pixels: int = parameter(help="largest image that is decoded, width times height")
    damaged: list[str] = parameter(help="names of files to leave out if they cannot be decoded")
    known_png: list[str] = parameter(help="files of the publisher that are PNG inside, by name")
    known_cmyk: list[str] = parameter(help="files of the publisher in CMYK, by name")
    official: Official = field(default_factory=Official)
    sample_sha256: str = parameter(help="one SHA-256 over those of the embedded sample's files")

    def check(self) -> None:
        """Ranges that types do not tell."""
        for source, share in self.val_share.items():
            if not 0 < share < 1:
                raise StageError(f"params.val_share.{source}={share}: expected a share between 0 and 1")
        if min(self.max_bytes, self.max_pixels) < 1:
            raise StageError("params.max_bytes, params.max_pixels: expected 1 or more")


@dataclass
class Config:
    """What the stage needs."""

    image_source: str = MISSING
    threads: int = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/imagenet"})
def main(cfg: Config) -> None:
    """Read every image of data/<source>/imagenet once and write runs/prepare/imagenet/index.csv with a manifest.

    The images stay where they are. The publisher's validation set is the test split; val is held out from train.
    """
    from stages.lib import artifacts
    from stages.lib.data import PREPARED
    from stages.prepare import images, provenance
    from stages.prepare.imagenet_devkit import META, TRUTH, read_devkit

    root = provenance.folder(cfg.image_source, "imagenet")
    folder = PREPARED / "imagenet"
    kit = root / cfg.params.devkit
    devkit = read_devkit(kit) if kit.is_dir() else None
    inputs = [kit / META, kit / TRUTH] if devkit else []
    wnids, items, ignored = list_items(root, devkit)
    limits = images.Limits(cfg.params.max_bytes, cfg.params.max_pixels)
    facts = images.inspect("imagenet", root, items, limits, cfg.threads)
    kept, left_out = images.leave_out_damaged(items, facts, cfg.params.damaged, root)
    counted = classify(items, kept, devkit, cfg.params)
    kind, why = images.settle_origin(cfg.image_source, root, kept, inputs, cfg.params.sample_sha256, counted)
    print(f"imagenet: {len(items)} images of {len(wnids)} classes in {root} ({kind}: {why})", flush=True)
    share = images.by_source(cfg.params.val_share, cfg.image_source, "val_share")
    splits = images.hold_out([item for item, _ in kept], share, cfg.params.split_seed)
    about = images.about_files(kept, left_out, ignored)
    images.say("imagenet", about)
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    counts = images.write_index(folder / "index.csv", kept, splits, wnids)
    artifacts.write_manifest(
        folder / "manifest.json",
        outputs=[folder / "index.csv"],
        inputs=inputs,
        config={"source": cfg.image_source, "params": _shown(cfg.params)},
        dataset="imagenet",
        source=cfg.image_source,
        root=root.as_posix(),
        files=kind,
        files_because=why,
        classes=wnids,
        words={wnid: devkit.words[wnid] for wnid in wnids} if devkit else {},
        counts=counts,
        index_sha256=artifacts.sha256(folder / "index.csv"),
        split="test is the publisher's val; val is held out from train",
        about=about,
    )
    images.drop_scratch("imagenet")


def _shown(params: Params) -> dict[str, object]:
    """Parameters without the lists, which the manifest would only repeat."""
    return {name: value for name, value in asdict(params).items() if not name.startswith("known_")}


def list_items(root: Path, devkit: Devkit | None) -> tuple[list[str], list[Item], list[str]]:
    """(wnids, images, ignored files) of train/ and val/. Raises StageError where they and the devkit disagree."""
    from stages.prepare import images

    wnids = images.class_folders(root / "train")
    for wnid in wnids:
        if devkit and wnid not in devkit.words:
            raise StageError(f"{root / 'train' / wnid}: unknown wnid; the development kit has no such class")
    items, ignored = images.folder_items(root, "train", wnids)
    val, others = val_items(root, devkit)
    found = {item.wnid for item in val}
    if lost := sorted(found - set(wnids)):
        raise StageError(f"{root / 'train' / lost[0]}: not found, though val holds images of it; fetch it or remove those")
    if lost := sorted(set(wnids) - found):
        raise StageError(f"{root / 'val'}: no image of class {lost[0]}, which train has; fetch the validation set again")
    images.refuse_duplicates([*items, *val], root)
    return wnids, [*items, *val], [*ignored, *others]


def val_items(root: Path, devkit: Devkit | None) -> tuple[list[Item], list[str]]:
    """Validation images, flat with the development kit's labels or in class folders; and ignored files."""
    from stages.prepare import images
    from stages.prepare.imagenet_devkit import META, TRUTH, flat_items

    folder = root / "val"
    if not folder.is_dir():
        raise StageError(f"{folder}: not found; expected the validation images, flat or in class folders")
    names, others = images.image_names(folder)
    nested = any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())
    if names and nested:
        raise StageError(f"{folder / names[0]}: beside class folders; expected either flat images or folders, not both")
    if not names:
        items, ignored = images.folder_items(root, "val", images.class_folders(folder))
        _check_labels(root, items, devkit)
        return items, [*(f"val/{name}" for name in others if not (folder / name).is_dir()), *ignored]
    if devkit is None:
        wanted = f"ILSVRC2012_devkit_t12/{META} and {TRUTH}"
        raise StageError(f"{folder}: flat, so its labels are needed; put {wanted} into {root}, or move images to val/<wnid>/")
    return flat_items(root, names, devkit), [f"val/{name}" for name in others]


def _check_labels(root: Path, items: Sequence[Item], devkit: Devkit | None) -> None:
    """Where class folders and a development kit are both there, they must agree."""
    from stages.prepare.imagenet_devkit import VAL_NAME

    for item in items:
        match = VAL_NAME.fullmatch(PurePosixPath(item.path).name)
        if devkit and match and 1 <= int(match[1]) <= len(devkit.truth):
            wnid = devkit.wnids[devkit.truth[int(match[1]) - 1]]
            if wnid != item.wnid:
                raise StageError(f"{root / item.path}: the development kit says {wnid}; move it to val/{wnid}/")


def classify(
    items: Sequence[Item], kept: Sequence[tuple[Item, Facts]], devkit: Devkit | None, params: Params
) -> tuple[str, str]:
    """(official, subset or re-made; why). From numbers of images and from the files known to be odd.

    The publisher lists no hash a file, so `official` says that every class has its official number of images and that
    every odd file is as it left the publisher; a set that was resized or cleaned fails the second.
    """
    from stages.prepare import images, provenance

    mended = _mended(kept, params)
    if mended:
        return provenance.REMADE, f"{mended}, so the files were encoded again"
    counts = images.class_counts(items)
    official = params.official
    most = devkit.train if devkit else {}
    for wnid in sorted(counts["train"]):
        train, val = counts["train"][wnid], counts["val"][wnid]
        limit = most.get(wnid, official.train_per_class)
        if train > limit or val > official.val_per_class:
            why = f"class {wnid} has {train} + {val} images, officially {limit} + {official.val_per_class}"
            return provenance.REMADE, why
    found = (len(counts["train"]), counts["train"].total(), counts["val"].total())
    wanted = (official.classes, official.train, official.val)
    text = "{} classes, {} + {} images".format(*found)
    if found == wanted:
        return provenance.OFFICIAL, text
    if any(have > want for have, want in zip(found, wanted)):
        return provenance.REMADE, "{}; officially {} classes, {} + {} images".format(text, *wanted)
    return images.SUBSET, "{} of {} classes, {} + {} images".format(text, *wanted)


def _mended(kept: Sequence[tuple[Item, Facts]], params: Params) -> str:
    """What is said of a known odd file that is not odd here, "" if all are."""
    odd: Mapping[str, str] = dict.fromkeys(params.known_png, "PNG") | dict.fromkeys(params.known_cmyk, "CMYK")
    for item, fact in kept:
        name = PurePosixPath(item.path).name
        if name in odd and odd[name] not in (fact.format, fact.mode):
            return f"{name} is {fact.format} {fact.mode}, not {odd[name]}"
    return ""


if __name__ == "__main__":
    main()
