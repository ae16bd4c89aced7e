"""When a supernet's sharing extent shrinks, when its optimiser starts afresh, and how its learning rate falls."""

from collections.abc import Sequence

from stages.lib.errors import StageError


def level(schedule: Sequence[int], epoch: int) -> int:
    """Active blocks L in an epoch counted from 1: the epochs of the schedule that have come (a repeated epoch counts)."""
    return sum(start <= epoch for start in schedule)


def check(schedule: Sequence[int], epochs: int, blocks: int, where: str = "schedule") -> None:
    """StageError unless the schedule starts in epoch 1, never falls, ends within the run and has an epoch a block."""
    if not schedule or schedule[0] != 1:
        raise StageError(f"{where}={list(schedule)}: expected the first level to start in epoch 1")
    if list(schedule) != sorted(schedule):
        raise StageError(f"{where}={list(schedule)}: expected epochs that never fall")
    if schedule[-1] > epochs:
        raise StageError(f"{where}={list(schedule)}: a level starts in epoch {schedule[-1]}, the run has {epochs}")
    if len(schedule) != blocks:
        raise StageError(f"{where}={list(schedule)}: {len(schedule)} levels for {blocks} blocks; expected as many")


class Plateau:
    """Learning rate that falls by `factor` once the loss has not improved for more than `patience` epochs.

    torch's ReduceLROnPlateau with its defaults (relative threshold 1e-4, no cooldown), for one rate.
    """

    def __init__(self, lr: float, patience: int, factor: float, threshold: float = 1e-4) -> None:
        self.lr, self.patience, self.factor, self.threshold = lr, patience, factor, threshold
        self.best, self.bad = float("inf"), 0

    def step(self, loss: float) -> float:
        """The rate after an epoch of this mean loss."""
        if loss < self.best * (1 - self.threshold):
            self.best, self.bad = loss, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.lr, self.bad = self.lr * self.factor, 0
        return self.lr
