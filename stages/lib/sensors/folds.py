"""Division of windows for cross-validation: grouped (no subject on both sides) or over windows (neighbours leak)."""

from __future__ import annotations

import dataclasses

import numpy

from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed

PROTOCOLS = ("grouped", "windows")


@dataclasses.dataclass(frozen=True)
class Division:
    """Disjoint places of windows, ascending: to train on, to choose epochs and order by, to measure on."""

    train: numpy.ndarray
    val: numpy.ndarray
    test: numpy.ndarray


def grouped_folds(y: numpy.ndarray, group: numpy.ndarray, folds: int, seed: int) -> numpy.ndarray:
    """The fold of each window, int64 [N]; a group lies in one fold, and classes are spread as evenly as can be.

    Greedy, as scikit-learn's StratifiedGroupKFold: groups in the order of falling unevenness, ties drawn by the seed,
    each to the fold that keeps the deviation of class shares between folds smallest.
    Raises StageError if there are fewer groups than folds.
    """
    names, place = numpy.unique(group, return_inverse=True)
    if folds < 2 or len(names) < folds:
        raise StageError(f"folds={folds}: expected 2 or more and at most the {len(names)} groups there are")
    counts = numpy.zeros((len(names), int(y.max()) + 1))
    numpy.add.at(counts, (place, y), 1)
    counts = counts[:, counts.sum(0) > 0]
    drawn = numpy.random.RandomState(seed % 2**32).permutation(len(names))
    order = drawn[numpy.argsort(-counts[drawn].std(1), kind="stable")]
    filled = numpy.zeros((folds, counts.shape[1]))
    of_group = numpy.zeros(len(names), numpy.int64)
    for one in order:
        of_group[one] = _emptiest(filled, counts[one], counts.sum(0))
        filled[of_group[one]] += counts[one]
    return of_group[place]


def _emptiest(filled: numpy.ndarray, added: numpy.ndarray, total: numpy.ndarray) -> int:
    """The fold for class counts `added` [K]: even class shares first, then the smallest fold."""
    best = None
    for fold in range(len(filled)):
        tried = filled.copy()
        tried[fold] += added
        score = (round(float((tried / total).std(0).mean()), 12), float(filled[fold].sum()), fold)
        best = score if best is None or score < best else best
    return best[2]


def window_folds(y: numpy.ndarray, folds: int, seed: int) -> numpy.ndarray:
    """The fold of each window, int64 [N], whoever the windows come from: a class's shares of the folds differ by one at most.

    The windows of each class are dealt in an order drawn by the seed, one class after the other.
    """
    if folds < 2 or len(y) < folds:
        raise StageError(f"folds={folds}: expected 2 or more and at most the {len(y)} windows there are")
    drawn = numpy.random.RandomState(seed % 2**32).permutation(len(y))
    result = numpy.zeros(len(y), numpy.int64)
    result[drawn[numpy.argsort(y[drawn], kind="stable")]] = numpy.arange(len(y)) % folds
    return result


def assign(y: numpy.ndarray, group: numpy.ndarray, protocol: str, folds: int, seed: int) -> numpy.ndarray:
    """The fold of each window by the protocol. Raises StageError for an unknown one."""
    if protocol not in PROTOCOLS:
        raise StageError(f"protocol={protocol}: expected one of {', '.join(PROTOCOLS)}")
    return grouped_folds(y, group, folds, seed) if protocol == "grouped" else window_folds(y, folds, seed)


def divide(y: numpy.ndarray, group: numpy.ndarray, protocol: str, *, folds: int, inner: int, fold: int, seed: int) -> Division:
    """Fold `fold` of `folds` is test; of the rest one part in `inner`, made by the same protocol, is val.

    The division follows from `seed`, so that the folds of one seed are disjoint and cover all windows.
    Raises StageError if a class is absent from train.
    """
    if not 0 <= fold < folds:
        raise StageError(f"fold={fold}: expected 0 to {folds - 1}")
    outer = assign(y, group, protocol, folds, derive_seed(seed, "folds"))
    test, rest = numpy.flatnonzero(outer == fold), numpy.flatnonzero(outer != fold)
    within = assign(y[rest], group[rest], protocol, inner, derive_seed(seed, "inner", fold))
    chosen = Division(rest[within != 0], rest[within == 0], test)
    absent = set(numpy.unique(y).tolist()) - set(y[chosen.train].tolist())
    if absent:
        raise StageError(f"fold {fold} leaves class {min(absent)} out of training; use fewer folds or more subjects")
    return chosen


def moments(x: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Mean and deviation per channel of windows [N, C, T], float64 [C]. Raises StageError for a constant channel."""
    mean, std = x.mean((0, 2), dtype=numpy.float64), x.std((0, 2), dtype=numpy.float64)
    dead = numpy.flatnonzero(~(std > 1e-6 * (numpy.abs(mean) + 1e-6)))
    if len(dead):
        raise StageError(f"channel {dead[0]} is constant in the training windows; leave it out or mend its sensor")
    return mean, std


def standardise(x: numpy.ndarray, mean: numpy.ndarray, std: numpy.ndarray) -> numpy.ndarray:
    """z-scores float32 [N, C, T] by the training fold's moments."""
    return ((x - mean[None, :, None]) / std[None, :, None]).astype(numpy.float32)
