"""The searches: random policies, then one at a time by expected improvement. No torch here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.random import RandomState
from numpy.typing import NDArray

from stages.lib.runtime import derive_seed
from stages.papers.multi_dimensional_vit_compression.gaussian_process import acquisition
from stages.papers.multi_dimensional_vit_compression.settings import Search
from stages.papers.multi_dimensional_vit_compression.space import Policy, Space

Evaluate = Callable[[Policy], float]


@dataclass(frozen=True)
class Trial:
    """An evaluated policy."""

    policy: Policy
    flops: int
    score: float

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"policy": self.policy.record(), "flops": self.flops, "score": self.score}


def best(trials: list[Trial]) -> Trial:
    """The first of those with the highest score."""
    return max(trials, key=lambda trial: trial.score)


class Run:
    """The points that one search has evaluated, no effective policy twice."""

    def __init__(self, space: Space, evaluate: Evaluate) -> None:
        self.space, self.evaluate = space, evaluate
        self.points: list[NDArray] = []
        self.trials: list[Trial] = []
        self.seen: set[bytes] = set()

    def add(self, x: NDArray) -> None:
        """Evaluate a point [D]."""
        found = self.space.policy(x)
        self.seen.update(self.space.keys(x[None]))
        self.points.append(x)
        self.trials.append(Trial(found, int(self.space.flops(x[None])[0]), self.evaluate(found)))

    def fresh(self, points: NDArray) -> NDArray:
        """Those of the points [P, D] whose policies are new, each policy once."""
        first = {key: i for i, key in reversed(list(enumerate(self.space.keys(points))))}
        return points[sorted(i for key, i in first.items() if key not in self.seen)]


def search(space: Space, evaluate: Evaluate, settings: Search, seed: int, guided: bool) -> list[Trial]:
    """`settings.evaluations` different feasible policies with their scores, fewer where the space has no more.

    The first `initial` are random, the same for all searches of one space and seed. The others are `guided` by expected
    improvement, or random as well. Raises StageError where no policy meets the budget.
    """
    run = Run(space, evaluate)
    random = RandomState(derive_seed(seed, "policies") % 2**32)
    for x in run.fresh(space.sample(random, settings.pool, settings.draws))[: settings.initial]:
        run.add(x)
    for step in range(settings.steps):
        pool = run.fresh(candidates(run, settings, random, guided))
        if not len(pool):
            break
        run.add(pool[choice(run, pool, settings, derive_seed(seed, "fit", step))] if guided else pool[0])
    return run.trials


def candidates(run: Run, settings: Search, random: RandomState, guided: bool) -> NDArray:
    """Feasible points for the next step: uniform ones and, for a guided search, some around the best so far."""
    close = int(settings.near * settings.pool) if guided else 0
    pool = run.space.sample(random, settings.pool - close, settings.draws)
    if not close:
        return pool
    top = run.points[max(range(len(run.points)), key=lambda i: run.trials[i].score)]
    around = run.space.near(random, top, settings.spread, close)
    return numpy.concatenate([pool, around[run.space.feasible(around)]])


def choice(run: Run, pool: NDArray, settings: Search, seed: int) -> int:
    """The candidate of highest expected improvement, the first of equals."""
    free = numpy.array(run.space.high) > 0.0
    scale = numpy.array(run.space.high)[free]
    points, scores = numpy.array(run.points)[:, free] / scale, numpy.array([trial.score for trial in run.trials])
    return int(acquisition(points, scores, pool[:, free] / scale, settings, seed).argmax())
