"""Tasks of one repetition: every arm on the same tasks, and the figures that are kept of them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy
import torch
from torch import Tensor

from stages.lib import artifacts, episodes
from stages.lib.episodes import Episodes, Shape
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.dependency_maximization_fsl.arms import find_arm
from stages.papers.dependency_maximization_fsl.selftraining import Batch, Outcome, Solver
from stages.papers.dependency_maximization_fsl.settings import Setting, Tasks

NORMAL = 1.96  # of the interval over a repetition's tasks


@dataclass
class Scores:
    """Figures of one arm by task, (T,): share of right query labels; of right ones among selected labels, after each round;
    of right pseudo-labels before it.
    """

    accuracy: numpy.ndarray
    selected: list[numpy.ndarray] = field(default_factory=list)
    pseudo: list[numpy.ndarray] = field(default_factory=list)


def read_features(path: Path, name: str) -> tuple[Tensor, numpy.ndarray]:
    """(features float32 [M, d], labels int64 [M]) that the features stage cached. StageError for anything else."""
    values, labels = artifacts.read_npz(path, name, "y")
    if values.dtype != numpy.float32 or values.ndim != 2 or labels.shape != values.shape[:1]:
        raise StageError(
            f"{path}: {name} is {values.dtype} {list(values.shape)}; expected float32, a row an image; run its stage"
        )
    if not numpy.isfinite(values).all():
        raise StageError(f"{path}: {name} holds NaN or infinity; its backbone has diverged, lower recipe.lr")
    return torch.from_numpy(values), labels


def draw(setting: Setting, tasks: Tasks, labels: numpy.ndarray, repetition: int, name: str) -> Episodes:
    """The tasks of a setting, which follow from the repetition and the setting's name."""
    shape = Shape(tasks.ways, setting.shots, setting.queries, setting.pool, setting.dirichlet)
    try:
        return episodes.draw(labels, shape, tasks.tasks, derive_seed(repetition, "tasks", name))
    except StageError as error:
        raise StageError(f"settings.{name}: {error}") from error


def measure(
    features: Tensor, drawn: Episodes, setting: Setting, params: Tasks, repetition: int, device: torch.device | str = "cpu"
) -> dict[str, Scores]:
    """Figures of the setting's arms on its tasks."""
    arms = {name: find_arm(name) for name in setting.arms}
    parts: dict[str, list[Scores]] = {name: [] for name in arms}
    transductive = setting.unlabelled == "query"
    for start in range(0, len(drawn), params.at_once):
        taken = slice(start, min(start + params.at_once, len(drawn)))
        solver = Solver(
            batch(features, drawn, taken, setting, params, repetition).to(device), params, setting.temperature, transductive
        )
        unlabelled = drawn.query_labels[taken] if transductive else numpy.tile(drawn.pool_labels, (taken.stop - start, 1))
        for name, arm in arms.items():
            parts[name].append(score(solver.run(arm), drawn.query_labels[taken], unlabelled))
    return {name: joined(found) for name, found in parts.items()}


def batch(features: Tensor, drawn: Episodes, taken: slice, setting: Setting, params: Tasks, repetition: int) -> Batch:
    """The features of some of the tasks."""
    count = taken.stop - taken.start
    places = drawn.query if setting.unlabelled == "query" else drawn.pool
    noise = [
        numpy.random.RandomState(derive_seed(repetition, "random selection", number) % 2**32)
        .random_sample((params.rounds.rounds, places.shape[1])).astype(numpy.float32)
        for number in range(taken.start, taken.stop)
    ]  # fmt: skip
    return Batch(
        support=features[torch.from_numpy(drawn.support[taken])],
        labels=torch.from_numpy(numpy.tile(drawn.support_labels, (count, 1))),
        query=features[torch.from_numpy(drawn.query[taken])],
        unlabelled=features[torch.from_numpy(places[taken])],
        each=setting.queries if setting.unlabelled == "query" else setting.pool,
        noise=torch.from_numpy(numpy.stack(noise)),
    )


def score(outcome: Outcome, query: numpy.ndarray, unlabelled: numpy.ndarray) -> Scores:
    """Shares of right labels by task; the true labels (T, n) are used here only."""
    found = Scores((outcome.predicted.cpu().numpy() == query).mean(1))
    for labels, chosen in zip(outcome.labels, outcome.chosen, strict=True):
        right, member = labels.cpu().numpy() == unlabelled, chosen.cpu().numpy()
        found.pseudo.append(right.mean(1))
        found.selected.append((right & member).sum(1) / member.sum(1).clip(1))
    return found


def joined(parts: list[Scores]) -> Scores:
    """The figures of all batches; one that came to rest early keeps its last round."""
    rounds = max(len(part.pseudo) for part in parts)

    def rows(part: Scores, kind: str) -> list[numpy.ndarray]:
        own = getattr(part, kind)
        return own + own[-1:] * (rounds - len(own))

    return Scores(
        numpy.concatenate([part.accuracy for part in parts]),
        *([numpy.concatenate(rows) for rows in zip(*(rows(part, kind) for part in parts), strict=True)]
          for kind in ("selected", "pseudo")),
    )  # fmt: skip


def half_width(values: numpy.ndarray) -> float:
    """Half of the 95 % interval of a mean over tasks: 1.96 s / sqrt(T)."""
    return float(NORMAL * values.std(ddof=1) / len(values) ** 0.5)


def figures(name: str, scores: Scores, against: Scores | None, rounds: int) -> dict[str, float]:
    """The metrics of one arm on one setting; `against` is plain cross-entropy on the same tasks.

    Where all tasks came to rest before the last of `rounds`, the figures of the last one stand for those that follow.
    """
    values = {f"accuracy_{name}": float(scores.accuracy.mean()), f"interval_{name}": half_width(scores.accuracy)}
    if against is not None:
        difference = scores.accuracy - against.accuracy
        values |= {f"gain_{name}": float(difference.mean()), f"gain_interval_{name}": half_width(difference)}
    if scores.selected:
        kept = [min(number, len(scores.selected)) - 1 for number in range(1, rounds + 1)]
        selected = [float(scores.selected[number].mean()) for number in kept]
        for number, place in enumerate(kept, 1):
            values[f"selected_{name}_round_{number}"] = selected[number - 1]
            values[f"pseudo_{name}_round_{number}"] = float(scores.pseudo[place].mean())
        values[f"selected_{name}"] = sum(selected) / rounds
    return values
