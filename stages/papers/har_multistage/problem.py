"""One fold of one data set: its windows divided, normalised by the training part and transformed."""

import dataclasses

import numpy
import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.sensors import folds
from stages.lib.sensors.windows import Windows
from stages.papers.har_multistage.learning import Examples
from stages.papers.har_multistage.settings import Params
from stages.papers.har_multistage.transforms import transform

PARTS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Problem:
    """Every transformed space of every part of a division."""

    spaces: dict[str, dict[str, Tensor]]  # by part, then by name: [N, C, ...]
    labels: dict[str, Tensor]
    places: dict[str, numpy.ndarray]  # of the parts' windows among all
    classes: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """[C, ...] of every space."""
        return {name: tuple(x.shape[1:]) for name, x in self.spaces["train"].items()}

    def examples(self, part: str, *names: str) -> Examples:
        """The windows of a part in some spaces."""
        return Examples(tuple(self.spaces[part][name] for name in names), self.labels[part])


def chosen_windows(windows: Windows, channels: list[str], eval_split: str) -> Windows:
    """The windows that folds are made of: all, or while settings are being chosen those of train and val only."""
    if eval_split not in ("val", "test"):
        raise StageError(f"eval_split={eval_split}: expected val or test")
    found = windows if eval_split == "test" else windows.of("train", "val")
    return found.select(channels) if channels else found


def make(windows: Windows, params: Params, protocol: str, repetition: int) -> Problem:
    """The fold of a repetition: folds 0, 1, ... of a division that is drawn anew when all folds have been had."""
    count = params.division.folds
    division = folds.divide(
        windows.y, windows.group, protocol, folds=count, inner=params.division.inner, fold=repetition % count,
        seed=repetition // count,
    )  # fmt: skip
    places = {part: getattr(division, part) for part in PARTS}
    mean, std = folds.moments(windows.x[division.train])
    spaces, labels = {}, {}
    for part, index in places.items():
        scaled = torch.from_numpy(folds.standardise(windows.x[index], mean, std))
        spaces[part] = {name: transform(name, scaled, params.transforms) for name in params.transforms.names}
        labels[part] = torch.from_numpy(windows.y[index])
    return Problem(spaces, labels, places, len(windows.classes))
