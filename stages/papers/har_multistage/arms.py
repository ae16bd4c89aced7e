"""What is compared. An arm's name ends in _windows where folds part windows and not subjects: the paper's protocol."""

import numpy

from stages.lib.sensors.folds import PROTOCOLS

GROUPED, WINDOWS = PROTOCOLS
SCRATCH = ("joint", "widened")  # trained at once, over grouped folds
MERGED = ("combined", "frozen", "sequential")
SINGLE = ("best_single", "late_average")
OVER_WINDOWS = ("best_single", "combined")  # arms that are measured by the paper's protocol too


def arm_name(arm: str, protocol: str) -> str:
    """The arm as metrics files name it."""
    return arm if protocol == GROUPED else f"{arm}_windows"


def confusion(y: numpy.ndarray, found: numpy.ndarray, classes: int) -> numpy.ndarray:
    """Windows by true (rows) and answered class, int64 [K, K]."""
    return numpy.bincount(y * classes + found, minlength=classes * classes).reshape(classes, classes)


def macro_f1(matrix: numpy.ndarray) -> float:
    """Mean F1 of the classes that occur among the true or answered ones."""
    right, total = numpy.diag(matrix), matrix.sum(0) + matrix.sum(1)
    return float((2 * right[total > 0] / total[total > 0]).mean())


def figures(y: numpy.ndarray, found: numpy.ndarray, classes: int) -> dict[str, float]:
    """Accuracy and macro F1 of answers."""
    return {"accuracy": float((y == found).mean()), "macro_f1": macro_f1(confusion(y, found, classes))}
