"""Who is trained on and who is tested: patients, or slabs of scans that share no slice; inner folds by patient."""

import dataclasses
from collections.abc import Sequence

import numpy
from torch import Tensor

from stages.lib.data import SPLITS
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.covsegnet.scans import Scan, Set

GUARD = 1  # slices left out beside a tested slab, which resemble it


@dataclasses.dataclass(frozen=True)
class Division:
    """Scans of a repetition. No patient is in both parts; for slabs, no slice."""

    train: tuple[Scan, ...]
    tested: tuple[Scan, ...]


def divide(found: Set, split: str, most: int, repetition: int) -> Division:
    """The scans of one repetition.

    Patients: all scans of the split are tested, and training scans drawn patient by patient until there are `most`.
    Slabs take turns: repetition r tests slab r of every scan, or the next one on val, and trains on the others.
    Raises StageError for an unknown or empty split, or for training scans without a lesion.
    """
    if split not in SPLITS[1:]:
        raise StageError(f"eval_split={split}: expected val or test")
    if found.unit == "slabs":
        return checked(_slabs(found.scans, repetition + (split == "val")), split)
    tested = tuple(one for one in found.scans if one.group == SPLITS.index(split))
    pool: dict[str, list[Scan]] = {}
    for one in found.scans:
        if one.group == 0:
            pool.setdefault(one.patient, []).append(one)
    names, drawn = sorted(pool), []
    for number in numpy.random.RandomState(derive_seed(repetition, "scans") % 2**32).permutation(len(names)):
        if len(drawn) < most:
            drawn += pool[names[number]]
    return checked(Division(tuple(drawn), tested), split)


def checked(division: Division, split: str) -> Division:
    """The division itself; StageError if nothing can be learned or tested."""
    if not division.tested:
        raise StageError(f"eval_split={split}: holds no scan; change the shares of the prepare stage")
    if not any(bool(one.lesion.any()) for one in division.train):
        raise StageError("the training scans hold no lesion; add scans with lesions")
    return division


def _slabs(scans: Sequence[Scan], turn: int) -> Division:
    count = max(one.group for one in scans) + 1
    tested = tuple(one for one in scans if one.group == turn % count)
    kept = [trimmed(one, [other for other in tested if other.case == one.case]) for one in scans if one not in tested]
    return Division(tuple(one for one in kept if len(one.image)), tested)


def trimmed(scan: Scan, tested: Sequence[Scan]) -> Scan:
    """A slab without the slices that lie within GUARD slices of a tested slab of the same scan."""
    first, last = scan.first, scan.first + len(scan.image)
    for other in tested:
        begin, end = other.first, other.first + len(other.image)
        if end <= first < end + GUARD:
            first = end + GUARD
        if begin - GUARD < last <= begin:
            last = begin - GUARD
    if (first, last) == (scan.first, scan.first + len(scan.image)):
        return scan
    kept = slice(first - scan.first, max(first, last) - scan.first)
    parts = {name: getattr(scan, name)[kept] for name in ("image", "lesion", "lung", "artefact")}
    return dataclasses.replace(scan, first=first, **parts)


def folds(scans: Sequence[Scan], count: int, seed: int) -> list[int]:
    """The inner fold of each scan, 0 to count - 1; scans of a patient are in one. Raises StageError for too few patients."""
    names = sorted({one.patient for one in scans})
    if len(names) < count:
        raise StageError(f"params.slices.folds={count}: there are {len(names)} training patients; use fewer folds")
    order = numpy.random.RandomState(derive_seed(seed, "folds") % 2**32).permutation(len(names))
    fold = {names[number]: place % count for place, number in enumerate(order.tolist())}
    return [fold[one.patient] for one in scans]


def out_of_fold(fold: Sequence[int], by_fold: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The probability of each scan by the net that never saw it: by_fold[k][i], of net k, which left out fold k."""
    return [by_fold[k][i] for i, k in enumerate(fold)]
