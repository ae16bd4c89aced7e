"""CIFAR-100's files (the publisher's, re-made ones, or the embedded sample) to one file a split, fine or coarse labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

FILES = ("meta", "train", "test")


@dataclass
class Params:
    """params/dataset/cifar100.yaml."""

    folder: str = parameter(help="folder of the files below data/<source>/cifar100")
    labels: str = parameter(help="fine (100 classes) or coarse (20 superclasses)")
    shape: list[int] = parameter(help="channels, height, width of an image")
    split_seed: int = parameter(help="seed of every random division")
    val_tail: dict[str, int | None] = parameter(help="by source: so many images at the end of train are validation, or null")
    val_share: float = parameter(help="validation's share of train where val_tail is null")
    limit: dict[str, int | None] = parameter(help="at most so many images of train, val, test; null for all")
    official_md5: dict[str, str] = parameter(help="MD5 of the publisher's files")
    sample_sha256: dict[str, str] = parameter(help="SHA-256 of the embedded sample's files")

    def check(self) -> None:
        """Ranges that types do not tell."""
        if self.labels not in ("fine", "coarse"):
            raise StageError(f"params.labels={self.labels}: expected fine or coarse")
        if not 0 < self.val_share < 1:
            raise StageError(f"params.val_share={self.val_share}: expected a share between 0 and 1")
        if len(self.shape) != 3:
            raise StageError(f"params.shape={self.shape}: expected channels, height, width")


@dataclass
class Config:
    """What the stage needs."""

    source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/cifar100"})
def main(cfg: Config) -> None:
    """Read CIFAR-100 in the publisher's layout from data/<source>/cifar100, hold out a validation split and write
    runs/prepare/cifar100/{train,val,test}.npz with a manifest. The files are read without unpickling code."""
    from stages.prepare import cifar, provenance
    from stages.prepare.splits import write_splits

    folder = provenance.folder(cfg.source, "cifar100") / cfg.params.folder
    contents = read_files(folder)
    try:
        kind = provenance.classify(contents, cfg.params.official_md5, cfg.params.sample_sha256)
    except StageError as error:
        raise StageError(f"{folder}: {error}") from error
    provenance.refuse_misplaced(kind, cfg.source, folder)
    print(f"cifar100: {folder} ({kind} files), {cfg.params.labels} labels", flush=True)
    names = {grade: cifar.read_names(contents["meta"], folder / "meta", f"{grade}_label_names") for grade in ("fine", "coarse")}
    batches = {name: read_batch(contents[name], folder / name, names, cfg.params) for name in ("train", "test")}
    parts, how = split(batches, cfg.params.val_tail.get(cfg.source), cfg.params)
    print(f"cifar100: {how}", flush=True)
    write_splits(
        "cifar100",
        parts,
        limit=cfg.params.limit,
        seed=cfg.params.split_seed,
        classes=names[cfg.params.labels],
        inputs=[folder / name for name in contents],
        config=cfg,
        about={"source": cfg.source, "files": kind, "split": how},
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """Contents of meta, train and test. Raises StageError naming the one that is absent."""
    from stages.lib.artifacts import read_bytes

    for name in FILES:
        if not (folder / name).is_file():
            raise StageError(f"{folder / name}: not found; expected the publisher's files {', '.join(FILES)}")
    return {name: read_bytes(folder / name) for name in FILES}


def read_batch(content: bytes, path: Path, names: dict[str, list[str]], params: Params) -> Any:
    """(x uint8 [N, C, H, W], y int64 [N]) of one file. Both kinds of labels are checked, and that every fine class
    lies in one coarse class.
    """
    from stages.prepare import cifar, pickles

    batch = pickles.loads(content, path)
    x = cifar.read_images(batch, path, params.shape)
    y = {grade: cifar.read_labels(batch, path, f"{grade}_labels", len(x), len(names[grade])) for grade in names}
    above = {}
    for row, (fine, coarse) in enumerate(zip(y["fine"].tolist(), y["coarse"].tolist(), strict=True)):
        if above.setdefault(fine, coarse) != coarse:
            raise StageError(f"{path}: image {row}: class {names['fine'][fine]} lies in two coarse classes; fetch it again")
    return x, y[params.labels]


def split(batches: dict[str, Any], val_tail: int | None, params: Params) -> tuple[dict[str, Any], str]:
    """(parts by split name, one sentence on how they were made) from {file name: (x, y)}."""
    from stages.prepare.splits import divide

    x, y = batches["train"]
    if val_tail is None:
        val = round(len(y) * params.val_share)
        parts = divide((x, y), {"val": val, "train": len(y) - val}, params.split_seed)
        return parts | {"test": batches["test"]}, f"test is test; val is {val} images held out from train"
    if not 0 < val_tail < len(y):
        raise StageError(f"params.val_tail={val_tail}: expected 1 to {len(y) - 1}, train has {len(y)} images")
    parts = {"train": (x[:-val_tail], y[:-val_tail]), "val": (x[-val_tail:], y[-val_tail:]), "test": batches["test"]}
    return parts, f"test is test; val is the last {val_tail} images of train"


if __name__ == "__main__":
    main()
