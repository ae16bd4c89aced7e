"""Where the stages keep their files."""

from pathlib import Path

from stages.lib import files

SLUG = "dependency_maximization_fsl"


def folder(kind: str, scale: str, dataset: str, seed: int) -> Path:
    """Where a stage of this kind (backbones, features, tasks) leaves its files."""
    return files.RUNS / SLUG / kind / scale / dataset / str(seed)


def metrics_file(scale: str, dataset: str, seed: int) -> Path:
    """The figures of all arms."""
    return files.RUNS / SLUG / "metrics" / scale / dataset / f"{seed}.json"
