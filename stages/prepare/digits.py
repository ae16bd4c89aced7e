"""UCI's handwritten digits (optdigits, 8x8 counts 0-16) to one file a split, with noise added once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter


@dataclass
class Params:
    """params/dataset/digits.yaml."""

    noise_std: float = parameter(help="standard deviation of the noise, of pixels in [0, 1]")
    noise_seed: int = parameter(help="seed of the noise")
    split_seed: int = parameter(help="seed of every random division")
    sizes: dict[str, int] = parameter(help="train, val, test where there is only optdigits.tes")
    val_share: float = parameter(help="validation's share of optdigits.tra where that is there; test is optdigits.tes")
    limit: dict[str, int | None] = parameter(help="at most so many images of train, val, test; null for all")
    official_sha256: dict[str, str] = parameter(help="SHA-256 of the publisher's files")

    def check(self) -> None:
        """Ranges that types do not tell."""
        if not 0 <= self.noise_std <= 1:
            raise StageError(f"params.noise_std={self.noise_std}: expected 0 to 1")
        if not 0 < self.val_share < 1:
            raise StageError(f"params.val_share={self.val_share}: expected a share between 0 and 1")
        if set(self.sizes) != {"train", "val", "test"} or min(self.sizes.values()) < 1:
            raise StageError(f"params.sizes={dict(self.sizes)}: expected train, val and test, each 1 or more")


@dataclass
class Config:
    """What the stage needs."""

    source: str = MISSING
    params: Params = field(default_factory=Params)


FILES = ("optdigits.tra", "optdigits.tes")
CLASSES = tuple(str(digit) for digit in range(10))


@stage(Config, files={"params": "dataset/digits"})
def main(cfg: Config) -> None:
    """Read optdigits.tes (and optdigits.tra if it is there) from data/<source>/digits, add noise once, divide
    and write runs/prepare/digits/{train,val,test}.npz with a manifest."""
    from stages.lib.artifacts import read_bytes
    from stages.prepare import provenance
    from stages.prepare.splits import write_splits

    folder = provenance.folder(cfg.source, "digits")
    names = [name for name in FILES if (folder / name).is_file()]
    if "optdigits.tes" not in names:
        raise StageError(f"{folder / 'optdigits.tes'}: not found; expected UCI's file of 1797 lines")
    contents = {name: read_bytes(folder / name) for name in names}
    try:
        kind = provenance.classify(contents, cfg.params.official_sha256, {})
    except StageError as error:
        raise StageError(f"{folder}: {error}") from error
    provenance.refuse_misplaced(kind, cfg.source, folder)
    print(f"digits: {', '.join(names)} in {folder} ({kind} files)", flush=True)
    images = {name: noisy(read_lines(content, folder / name), name, cfg.params) for name, content in contents.items()}
    parts, how = split_files(images, cfg.params)
    print(f"digits: {how}", flush=True)
    write_splits(
        "digits",
        parts,
        limit=cfg.params.limit,
        seed=cfg.params.split_seed,
        classes=CLASSES,
        inputs=[folder / name for name in names],
        config=cfg,
        about={
            "source": cfg.source,
            "files": kind,
            "split": how,
            "encoding": "uint8 = 85 * (pixel in [0, 1] + noise + 1)",
        },
    )


def read_lines(content: bytes, path: Path) -> Any:
    """(counts 0-16 int64 [N, 1, 8, 8], labels int64 [N]) of a UCI text file. Raises StageError naming the line."""
    import numpy

    rows = []
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
        words = line.split(",")
        try:
            row = [int(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 65 or not all(0 <= value <= 16 for value in row[:64]) or not 0 <= row[64] <= 9:
            raise StageError(f"{path}: line {number}: expected 64 whole numbers 0 to 16 and a digit")
        rows.append(row)
    if not rows:
        raise StageError(f"{path}: empty; expected one image a line")
    table = numpy.array(rows, dtype=numpy.int64)
    return table[:, :64].reshape(-1, 1, 8, 8), table[:, 64]


def noisy(images: Any, name: str, params: Params) -> Any:
    """Pixels in [0, 1] with near-normal noise, stored as uint8 85 * (pixel + noise + 1), cut off at 0 and 255.

    Twelve uniforms summed stand for a normal variable: integers only, so the bytes agree on every machine.
    """
    import numpy

    from stages.lib.runtime import derive_seed

    counts, labels = images
    random = numpy.random.RandomState(derive_seed(params.noise_seed, name) % 2**32)
    bell = random.randint(0, 65536, (*counts.shape, 12)).sum(-1) - 6 * 65536  # s.d. 65536
    noise = 85 * bell * round(params.noise_std * 1024) >> 10
    values = counts * (85 * 4096) + 85 * 65536 + noise  # in 1/65536 of a grey level; 4096 = 65536 / 16
    return numpy.clip((values + 32768) >> 16, 0, 255).astype(numpy.uint8), labels


def split_files(images: dict[str, Any], params: Params) -> tuple[dict[str, Any], str]:
    """(parts by split name, one sentence on how they were made)."""
    from stages.prepare.splits import divide

    if "optdigits.tra" not in images:
        sizes = {name: params.sizes[name] for name in ("test", "val", "train")}
        return divide(
            images["optdigits.tes"], sizes, params.split_seed
        ), "no optdigits.tra: optdigits.tes is divided by params.sizes"
    pool = images["optdigits.tra"]
    val = round(len(pool[1]) * params.val_share)
    parts = divide(pool, {"val": val, "train": len(pool[1]) - val}, params.split_seed)
    how = f"test is optdigits.tes; val is {val} images held out from optdigits.tra"
    return parts | {"test": images["optdigits.tes"]}, how


if __name__ == "__main__":
    main()
