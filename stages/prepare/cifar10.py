"""CIFAR-10's batch files (the publisher's, re-made ones, or the embedded sample) to one file a split."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter


@dataclass
class Params:
    """params/dataset/cifar10.yaml."""

    folder: str = parameter(help="folder of the batch files below data/<source>/cifar10")
    shape: list[int] = parameter(help="channels, height, width of an image")
    split_seed: int = parameter(help="seed of every random division")
    val_batch: dict[str, str | None] = parameter(help="by source: the batch that is the validation split, or null")
    val_share: float = parameter(help="validation's share of the training batches where val_batch is null")
    test_share: float = parameter(help="test's share of the training batches where there is no test_batch")
    limit: dict[str, int | None] = parameter(help="at most so many images of train, val, test; null for all")
    official_md5: dict[str, str] = parameter(help="MD5 of the publisher's files")
    sample_sha256: dict[str, str] = parameter(help="SHA-256 of the embedded sample's files")

    def check(self) -> None:
        """Ranges that types do not tell."""
        for name in ("val_share", "test_share"):
            if not 0 < getattr(self, name) < 1:
                raise StageError(f"params.{name}={getattr(self, name)}: expected a share between 0 and 1")
        if len(self.shape) != 3:
            raise StageError(f"params.shape={self.shape}: expected channels, height, width")


@dataclass
class Config:
    """What the stage needs."""

    source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/cifar10"})
def main(cfg: Config) -> None:
    """Read CIFAR-10 in the publisher's layout from data/<source>/cifar10, hold out a validation split and write
    runs/prepare/cifar10/{train,val,test}.npz with a manifest. The batch files are read without unpickling code."""
    from stages.prepare import cifar, provenance
    from stages.prepare.splits import write_splits

    folder = provenance.folder(cfg.source, "cifar10") / cfg.params.folder
    contents = read_files(folder)
    try:
        kind = provenance.classify(contents, cfg.params.official_md5, cfg.params.sample_sha256)
    except StageError as error:
        raise StageError(f"{folder}: {error}") from error
    provenance.refuse_misplaced(kind, cfg.source, folder)
    print(f"cifar10: {', '.join(contents)} in {folder} ({kind} files)", flush=True)
    classes = cifar.read_names(contents["batches.meta"], folder / "batches.meta", "label_names")
    batches = {
        name: read_batch(content, folder / name, len(classes), cfg.params.shape)
        for name, content in contents.items()
        if name != "batches.meta"
    }
    parts, how = split_batches(batches, cfg.params.val_batch.get(cfg.source), cfg.params)
    print(f"cifar10: {how}", flush=True)
    write_splits(
        "cifar10",
        parts,
        limit=cfg.params.limit,
        seed=cfg.params.split_seed,
        classes=classes,
        inputs=[folder / name for name in contents],
        config=cfg,
        about={"source": cfg.source, "files": kind, "split": how},
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """Contents of batches.meta, data_batch_* (at least one) and test_batch (if there). Raises StageError."""
    from stages.lib.artifacts import read_bytes

    if not folder.is_dir():
        raise StageError(f"{folder}: not found; expected the publisher's folder with data_batch_1 and batches.meta")
    names = sorted(item.name for item in folder.iterdir() if re.fullmatch(r"data_batch_\d+|test_batch", item.name))
    if not any(name.startswith("data_batch") for name in names):
        raise StageError(f"{folder}: no data_batch_1; expected the publisher's batch files")
    if not (folder / "batches.meta").is_file():
        raise StageError(f"{folder / 'batches.meta'}: not found; it holds the names of the classes")
    return {name: read_bytes(folder / name) for name in ["batches.meta", *names]}


def read_batch(content: bytes, path: Path, classes: int, shape: list[int]) -> Any:
    """(x uint8 [N, C, H, W], y int64 [N]) of one batch file; sizes and labels are checked against each other."""
    from stages.prepare import cifar, pickles

    batch = pickles.loads(content, path)
    x = cifar.read_images(batch, path, shape)
    return x, cifar.read_labels(batch, path, "labels", len(x), classes)


def split_batches(batches: dict[str, Any], val_batch: str | None, params: Params) -> tuple[dict[str, Any], str]:
    """(parts by split name, one sentence on how they were made) from {file name: (x, y)}."""
    import numpy

    from stages.prepare.splits import divide

    training = [name for name in batches if name.startswith("data_batch")]
    if val_batch is not None and (val_batch not in training or len(training) < 2):
        there = ", ".join(training)
        raise StageError(f"val_batch={val_batch}: expected one of several training batches; there are {there}")
    rest = [name for name in training if name != val_batch]
    pool = tuple(numpy.concatenate([batches[name][part] for name in rest]) for part in (0, 1))
    parts, counts, how = {}, {}, []
    if "test_batch" in batches:
        parts["test"] = batches["test_batch"]
        how.append("test is test_batch")
    else:
        counts["test"] = round(len(pool[1]) * params.test_share)
        how.append(f"no test_batch: test is {counts['test']} images held out from {', '.join(rest)}")
    if val_batch is not None:
        parts["val"] = batches[val_batch]
        how.append(f"val is {val_batch}")
    else:
        counts["val"] = round((len(pool[1]) - counts.get("test", 0)) * params.val_share)
        how.append(f"val is {counts['val']} images held out from {', '.join(rest)}")
    counts["train"] = len(pool[1]) - sum(counts.values())
    return parts | divide(pool, counts, params.split_seed), "; ".join(how)


if __name__ == "__main__":
    main()
