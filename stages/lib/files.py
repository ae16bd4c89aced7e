"""Where stages keep their files, how one matrix seed stands for several repetitions, and the rows that reports read."""

from pathlib import Path

from stages.lib import artifacts
from stages.lib.errors import StageError

RUNS = Path("runs")
SCRATCH = RUNS / ".scratch"


def repetitions(seed: int, repeats: int) -> list[int]:
    """Repetitions s k .. s k + k - 1 that matrix seed s stands for where the scale has `repeats: k`."""
    if repeats < 1:
        raise StageError(f"repeats={repeats}: expected 1 or more; correct the scale's params file")
    return list(range(seed * repeats, (seed + 1) * repeats))


def weights(folder: Path, stem: str, repetition: int, repeats: int) -> Path:
    """A repetition's safetensors file: `<stem>.safetensors`, or `<stem>-<repetition>.safetensors` if there are several."""
    return folder / (f"{stem}.safetensors" if repeats == 1 else f"{stem}-{repetition}.safetensors")


def scratch(folder: Path, repetition: int, purpose: str) -> Path:
    """The resumable state of one training of the stage that writes `folder`."""
    return SCRATCH / folder.relative_to(RUNS) / f"{purpose}-{repetition}.state"


def seal(folder: Path, made: list[Path], read: list[Path], config: object) -> None:
    """The manifest, written after all other outputs of a stage."""
    artifacts.write_manifest(folder / "manifest.json", outputs=made, inputs=[_or_index(path) for path in read], config=config)


def _or_index(path: Path) -> Path:
    """The file of a prepared split; where its images are in shards, their index, which stands for them."""
    index = path.parent.with_name(f"{path.parent.name}_shards") / f"{path.stem}.index.npz"
    return index if path.suffix == ".npz" and not path.exists() and index.is_file() else path


def metric_rows(dataset: str, arm: str, repetition: int, values: dict[str, float]) -> list[dict]:
    """One row a metric, as the report reads them."""
    return [
        {"dataset": dataset, "arm": arm, "seed": repetition, "metric": name, "value": value} for name, value in values.items()
    ]


def layer_rows(dataset: str, arm: str, repetition: int, layers: list[dict]) -> list[dict]:
    """One row a prunable layer: its input channels before and after."""
    return [
        {"dataset": dataset, "arm": arm, "seed": repetition, "layer": layer["site"], "channels": layer["channels"],
         "kept": len(layer["kept"])}
        for layer in layers
    ]  # fmt: skip
