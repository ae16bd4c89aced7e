"""What the stage merge left of one set at one scale, verified and brought together for the pictures."""

import dataclasses

import numpy

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.lib.statistics import mean_interval
from stages.papers.har_multistage import arms, saved


@dataclasses.dataclass(frozen=True)
class Results:
    """All folds of all seeds."""

    accuracies: dict[str, tuple[float, float, float]]  # mean and 95 % interval by arm, and by "only <transformation>"
    folds: int
    curves: dict[str, list[float]]  # mean validation accuracy by pass, of grouped folds
    confusion: numpy.ndarray  # of the combined net over grouped folds, int64 [K, K]
    classes: list[str]


def read(scale: str, dataset: str, seeds: list[int]) -> Results:
    """The results of a set. Raises StageError naming the file that is absent or differs from its manifest."""
    if not seeds:
        raise StageError("seeds=[]: expected one or more")
    values: dict[str, list[float]] = {}
    curves: dict[str, list[list[float]]] = {}
    total, classes = 0, []
    for seed in seeds:
        place = saved.folder("merged", scale, dataset, seed)
        artifacts.verify_manifest(place / "manifest.json")
        for row in artifacts.read_json(saved.metrics(scale, dataset, seed))["rows"]:
            if row["metric"].startswith("accuracy"):
                values.setdefault(bar(row["arm"], row["metric"]), []).append(row["value"])
        about = artifacts.read_json(place / "branches.json")
        classes = about["classes"]
        for one in about["repetitions"]:
            if one["protocol"] == arms.GROUPED:
                for name, curve in one["curves"].items():
                    curves.setdefault(name, []).append(curve)
                names = f"y_{arms.GROUPED}_{one['seed']}", f"combined_{one['seed']}"
                total = total + arms.confusion(*artifacts.read_npz(place / "answers.npz", *names), len(classes))
    told = {name: mean_interval(found) for name, found in values.items()}
    means = {name: averaged(found) for name, found in curves.items()}
    return Results(
        {name: (one.mean, one.low, one.high) for name, one in told.items()}, len(values["combined"]), means, total, classes
    )


def bar(arm: str, metric: str) -> str:
    """What a row of metrics is drawn as: an arm, or a single transformation under the protocol that the arm is of."""
    name = metric.removeprefix("accuracy").removeprefix("_")
    return f"only {name}{'_windows' * arm.endswith('_windows')}" if name else arm


def averaged(curves: list[list[float]]) -> list[float]:
    """Means by pass, over the passes that all trainings have had."""
    return numpy.mean([curve[: min(map(len, curves))] for curve in curves], axis=0).tolist()
