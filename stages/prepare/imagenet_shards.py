"""The indexed images of ImageNet to tar shards (WebDataset's format), from which training streams them.

    python stages/prepare/imagenet_shards.py threads=16

Not part of the default run: only nets trained at the scale `paper` read the shards.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from stages.lib.checks import at_least, between
from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    from pathlib import Path

    from stages.prepare.shard_files import Encoding


@dataclass
class Params:
    """params/dataset/imagenet_shards.yaml."""

    per_shard: int = parameter(help="at most so many images a shard")
    seed: int = parameter(help="of the images' order in the shards")
    side: int = parameter(help="larger images are resized to a shorter side of so many pixels; 0 keeps files as they are")
    quality: int = parameter(help="of the JPEG encoding of resized images")
    shorter: int = parameter(help="readers resize the shorter side to so many pixels")
    image: int = parameter(help="readers cut out the middle square of so many pixels")

    def check(self) -> None:
        """Ranges that types do not tell."""
        at_least("per_shard", self.per_shard, 1)
        between("quality", self.quality, 1, 96)
        between("seed", self.seed, 0, 2**32)
        at_least("image", self.image, 1)
        at_least("shorter", self.shorter, self.image)
        if self.side and self.side < self.shorter:
            raise StageError(f"params.side={self.side}: expected {self.shorter} (shorter) or more, or 0 for files as they are")


@dataclass
class Config:
    """What the stage needs."""

    threads: int = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/imagenet_shards"})
def main(cfg: Config) -> None:
    """Read the images that runs/prepare/imagenet/index.csv names and write runs/prepare/imagenet_shards: for every split
    <split>-00000.tar and so on and <split>.index.npz, then a manifest. A killed run goes on after its last whole shard."""
    from stages.lib import artifacts, images
    from stages.lib.data import PREPARED, SPLITS, check_labels
    from stages.prepare.shard_files import Encoding, Journal, write_split

    source = PREPARED / "imagenet" / "manifest.json"
    indexed = artifacts.read_json(source)
    splits = {split: images.read_index("imagenet", split) for split in SPLITS}
    for split, index in splits.items():
        check_labels(index.labels, len(index.classes), f"{source.with_name('index.csv')}: {split}")
    folder, params = PREPARED / "imagenet_shards", cfg.params
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    encoding = Encoding(params.side, params.quality)
    journal = Journal("imagenet_shards", _header(indexed["index_sha256"], encoding, params))
    made = []
    for split, index in splits.items():
        made += write_split(index, folder / split, params.per_shard, params.seed, encoding, cfg.threads, journal)
    _remove_others(folder, made)
    artifacts.write_manifest(
        folder / "manifest.json",
        outputs=made,
        inputs=[source],
        config={"params": asdict(params)},
        dataset="imagenet_shards",
        classes=indexed["classes"],
        source=indexed["source"],
        files=indexed["files"],
        index_sha256=indexed["index_sha256"],
        mean=images.MEAN,
        std=images.STD,
        image=params.image,
        shorter=params.shorter,
        shape=[3, params.image, params.image],
        counts={split: len(index) for split, index in splits.items()},
    )
    journal.remove()


def _header(digest: str, encoding: Encoding, params: Params) -> list[Any]:
    """What decides a shard's bytes."""
    import PIL

    return [digest, asdict(encoding), params.per_shard, params.seed, PIL.__version__]


def _remove_others(folder: Path, made: list[Path]) -> None:
    """Shards that an earlier run with other settings left."""
    for path in set(folder.glob("*.tar")) - set(made):
        path.unlink()


if __name__ == "__main__":
    main()
