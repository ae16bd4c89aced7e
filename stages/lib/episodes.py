"""Few-shot data: sets whose splits have different classes, and the tasks (episodes) drawn from one of them.

A prepared set of this kind has other classes in `train` (base classes), `val` (validation classes) and `test` (novel
classes); its manifest lists them under `class_split`. A task is N classes with K labelled (support), some query and, where
asked for, some unlabelled images (pool) of each; its labels count 0 .. N-1.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib import artifacts, data
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed

if TYPE_CHECKING:
    import numpy

    from stages.lib.data import Split


def check_classes(split: Mapping[str, Sequence[str]], where: str) -> None:
    """StageError unless train, val and test each list classes, and no class stands twice."""
    if set(split) != set(data.SPLITS):
        raise StageError(f"{where}: expected classes for {', '.join(data.SPLITS)}, got {', '.join(split) or 'none'}")
    for name in data.SPLITS:
        if not split[name]:
            raise StageError(f"{where}.{name}: no class; expected one or more")
    times = Counter(name for names in split.values() for name in names)
    twice = sorted(name for name, count in times.items() if count > 1)
    if twice:
        held = [name for name in data.SPLITS if twice[0] in split[name]]
        raise StageError(f"{where}: class {twice[0]} stands in {' and '.join(held)} ({times[twice[0]]} times); expected once")


def load(dataset: str, split: str, root: str | Path = data.PREPARED) -> Split:
    """The images of one group of classes, normalised by the base classes' moments.

    Raises StageError for a set that is not split by classes, an absent or altered file, a class in two splits.
    """
    import torch

    if split not in data.SPLITS:
        raise StageError(f"split={split}: expected one of {', '.join(data.SPLITS)}")
    folder = Path(root) / dataset
    path = folder / f"{split}.npz"
    about = artifacts.read_json(folder / "manifest.json")
    if not isinstance(about, dict) or not {"class_split", "mean", "std", "source", "outputs"} <= about.keys():
        raise StageError(f"{folder / 'manifest.json'}: not of a set that is split by classes; run its prepare stage")
    check_classes(about["class_split"], f"{folder / 'manifest.json'}: class_split")
    if artifacts.sha256(path) != about["outputs"].get(path.name):
        raise StageError(f"{path}: differs from its manifest; run the prepare stage of {dataset} again")
    x, y = artifacts.read_npz(path, "x", "y")
    names = tuple(about["class_split"][split])
    data.check(x, y, len(names), str(path))
    mean, std = (torch.tensor(about[key], dtype=torch.float32).view(1, -1, 1, 1) for key in ("mean", "std"))
    images = torch.from_numpy(x).to(torch.float32).div_(255).sub_(mean).div_(std)
    moments = (tuple(about["mean"]), tuple(about["std"]))
    return data.Split(images, torch.from_numpy(y), names, *moments, about["source"], split)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a task: `queries` and `pool` (0 for none) are images a class.

    With `dirichlet` above 0 the N * queries query images have class shares drawn from a symmetric Dirichlet law of that
    concentration instead of equal ones.
    """

    ways: int
    shots: int
    queries: int
    pool: int = 0
    dirichlet: float = 0.0


@dataclasses.dataclass(frozen=True)
class Episodes:
    """Tasks as indices of the split's images: support [T, N*K], query [T, N*Q], pool [T, N*P], sorted by the task's class.

    query_labels [T, N*Q] are those of the query images; of the others they follow from the order (support_labels,
    pool_labels). classes [T, N]: the split's classes behind the task's labels 0 .. N-1.
    """

    shape: Shape
    classes: numpy.ndarray
    support: numpy.ndarray
    query: numpy.ndarray
    query_labels: numpy.ndarray
    pool: numpy.ndarray

    def __len__(self) -> int:
        return len(self.support)

    @property
    def support_labels(self) -> numpy.ndarray:
        """[N*K], the same for all tasks."""
        return _labels(self.shape.ways, self.shape.shots)

    @property
    def pool_labels(self) -> numpy.ndarray:
        """[N*P], the same for all tasks; for scoring only, a method must not see them."""
        return _labels(self.shape.ways, self.shape.pool)


def _labels(ways: int, each: int) -> numpy.ndarray:
    import numpy

    return numpy.repeat(numpy.arange(ways), each)


def draw(y: numpy.ndarray, shape: Shape, tasks: int, seed: int) -> Episodes:
    """`tasks` random tasks from labels [N]: classes and images without replacement.

    Each task has a seed of its own, so the first ones stay the same when more are drawn. Raises StageError for fewer
    classes than ways, and for a class with fewer images than a task can take.
    """
    import numpy

    members = [numpy.flatnonzero(y == label) for label in numpy.unique(y)]
    _check(members, shape, tasks)
    made = [_task(members, shape, derive_seed(seed, "task", number)) for number in range(tasks)]
    return Episodes(shape, *(numpy.stack(parts) for parts in zip(*made, strict=True)))


def _check(members: Sequence[numpy.ndarray], shape: Shape, tasks: int) -> None:
    for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("pool", 0)):
        if getattr(shape, name) < least:
            raise StageError(f"{name}={getattr(shape, name)}: expected {least} or more")
    if tasks < 1:
        raise StageError(f"tasks={tasks}: expected 1 or more")
    if not 0 <= shape.dirichlet < float("inf"):
        raise StageError(f"dirichlet={shape.dirichlet}: expected a finite number of 0 or more")
    if len(members) < shape.ways:
        raise StageError(f"ways={shape.ways}: the split has {len(members)} classes; lower ways or use a larger set")
    fewest = min(map(len, members))
    most_queries = shape.ways * shape.queries if shape.dirichlet else shape.queries
    needed = shape.shots + shape.pool + most_queries
    if fewest < needed:
        parts = f"shots={shape.shots}, queries={most_queries}, pool={shape.pool}"
        raise StageError(f"{parts}: a task may need {needed} images of a class, the smallest class has {fewest}; lower one")


def _task(members: Sequence[numpy.ndarray], shape: Shape, seed: int) -> tuple[numpy.ndarray, ...]:
    """(classes, support, query, query labels, pool) of one task."""
    import numpy

    random = numpy.random.RandomState(seed % 2**32)
    classes = random.permutation(len(members))[: shape.ways]
    counts = _query_counts(shape, random)
    support, query, pool = [], [], []
    for label, count in zip(classes, counts, strict=True):
        images = random.permutation(members[label])
        support.append(images[: shape.shots])
        pool.append(images[shape.shots : shape.shots + shape.pool])
        query.append(images[shape.shots + shape.pool : shape.shots + shape.pool + count])
    labels = numpy.repeat(numpy.arange(shape.ways), counts)
    return classes, numpy.concatenate(support), numpy.concatenate(query), labels, numpy.concatenate(pool)


def _query_counts(shape: Shape, random: numpy.random.RandomState) -> numpy.ndarray:
    """Query images of every class of the task, in all ways * queries."""
    import numpy

    if not shape.dirichlet:
        return numpy.full(shape.ways, shape.queries)
    shares = random.dirichlet(numpy.full(shape.ways, shape.dirichlet))
    return random.multinomial(shape.ways * shape.queries, shares)
