"""Where the stages keep what they make."""

from pathlib import Path

from stages.lib import artifacts, files
from stages.lib.data import PREPARED

TRAIN_SET, TEST_SET = "div2k", "benchmarks"


def read(dataset: str, split: str) -> list[Path]:
    """The files of a prepared split, for manifests."""
    return [PREPARED / dataset / name for name in ("index.csv", f"{split}.npy", "manifest.json")]


def folder(stage: str, scale: str, seed: int) -> Path:
    """What a stage makes for a matrix seed: pretrained, nets, evaluated."""
    return files.RUNS / "ghostsr" / stage / scale / str(seed)


def metrics(scale: str, seed: int) -> Path:
    """The figures of a matrix seed, in which the manifest of `evaluated` has its hash."""
    return files.RUNS / "ghostsr" / "metrics" / scale / TEST_SET / f"{seed}.json"


def pretrained(scale: str, seed: int, repetition: int, repeats: int) -> Path:
    """The pre-trained net of a repetition."""
    return files.weights(folder("pretrained", scale, seed), "full", repetition, repeats)


def verified(place: Path) -> Path:
    """The manifest of a folder that a stage wrote, all files being as it says. Raises StageError."""
    artifacts.verify_manifest(place / "manifest.json")
    return place / "manifest.json"
