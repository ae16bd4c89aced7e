"""How a CT set is divided: whole scans by patient, or slabs of scans where there are few patients."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy

from stages.lib.data import SPLITS
from stages.lib.errors import StageError
from stages.prepare.ct_cases import Case


@dataclasses.dataclass(frozen=True)
class Pieces:
    """What is divided. piece int64 [n, 4]: case, first and last slice (exclusive), split or number of the slab."""

    piece: numpy.ndarray
    unit: str  # patients or slabs
    how: str

    def counts(self) -> dict[str, int]:
        """Pieces by split; slabs take turns, so that they count as train."""
        if self.unit == "slabs":
            return {"train": len(self.piece), "val": 0, "test": 0}
        return {name: int((self.piece[:, 3] == place).sum()) for place, name in enumerate(SPLITS)}


def divide(read: Sequence[Case], owners: Sequence[str], params: Any) -> Pieces:
    """Whole scans by patient, drawn at random; with fewer than params.patients, slabs of slices in a row."""
    names = sorted(set(owners), key=lambda name: (len(name), name))
    if len(names) < params.patients:
        rows = [(i, *ends, k) for i, one in enumerate(read) for k, ends in enumerate(slabs(one, params.slabs))]
        return Pieces(numpy.array(rows, dtype=numpy.int64), "slabs", f"{params.slabs} slabs of each scan, which take turns")
    order = numpy.random.RandomState(params.split_seed).permutation(len(names))
    test, val = (max(1, round(len(names) * share)) for share in (params.test_share, params.val_share))
    place = {names[number]: 2 if i < test else 1 if i < test + val else 0 for i, number in enumerate(order.tolist())}
    rows = [(i, 0, len(one.image), place[owner]) for i, (one, owner) in enumerate(zip(read, owners))]
    return Pieces(numpy.array(rows, dtype=numpy.int64), "patients", "by patient, at random")


def slabs(case: Case, count: int) -> list[tuple[int, int]]:
    """First and last slice (exclusive) of nearly equal slabs. Raises StageError for a scan with too few slices."""
    depth = len(case.image)
    if depth < 3 * count:
        raise StageError(f"case {case.name}: {depth} slices; expected {3 * count} or more for {count} slabs (params.slabs)")
    edges = [depth * k // count for k in range(count + 1)]
    return list(itertools.pairwise(edges))
