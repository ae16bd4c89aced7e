"""Where the comparison's stages write, and what."""

from pathlib import Path

from stages.lib import artifacts, files, weights
from stages.lib.models import Net

RUNS = files.RUNS / "compare" / "channel_pruning"


def place(*parts: object) -> Path:
    """A folder below the comparison's runs."""
    return RUNS.joinpath(*map(str, parts))


def trained(scale: str, dataset: str, seed: int) -> Path:
    """The folder of the dense nets of one matrix seed."""
    return place("train", scale, dataset, seed)


def save(
    made: list[tuple[int, Net, dict[str, float]]], cell: tuple[str, str, str, str, int], repeats: int, metrics: Path
) -> None:  # fmt: skip
    """Weights of each repetition and one row each, with the bytes on disk; `cell` is scale, dataset, method, budget, seed."""
    _, dataset, method, budget, _ = cell
    folder, rows = place("nets", *cell), []
    for repetition, net, values in made:
        path = files.weights(folder, "model", repetition, repeats)
        weights.save_model(path, net)
        key = {"dataset": dataset, "method": method, "budget": budget, "seed": repetition}
        rows.append({**key, **values, "bytes": path.stat().st_size})
    artifacts.write_json(metrics, {"rows": rows})
