"""The tasks of the paper, in the official order and numbering, and further noise levels for the generalisation test."""

import re
from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError

Kind = Literal["sr", "derain", "denoise"]
PATTERN = re.compile(r"sr([234])|derain|denoise([1-9]\d?)")


@dataclass(frozen=True)
class Task:
    """A corruption to undo: `scale` r of super-resolution (1 otherwise), `sigma` of the noise in grey levels (0 otherwise)."""

    name: str
    kind: Kind
    scale: int = 1
    sigma: float = 0.0


def task(name: str) -> Task:
    """The task of a name: sr2, sr3, sr4, derain, denoise<sigma>. StageError for another name."""
    found = PATTERN.fullmatch(name)
    if found is None:
        raise StageError(f"task {name}: expected sr2, sr3, sr4, derain or denoise<sigma> with a sigma of 1 to 99")
    if found[1]:
        return Task(name, "sr", scale=int(found[1]))
    return Task(name, "denoise", sigma=float(found[2])) if found[2] else Task(name, "derain")


# The order of the official readme; a task's place is the index of its head, tail and query there.
OFFICIAL = ("sr2", "sr3", "sr4", "derain", "denoise30", "denoise50")
