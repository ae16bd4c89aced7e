"""FedMatch's division of CIFAR-10, which FedPU's experiments use: few labels of every class, the rest unlabelled."""

import numpy

from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.fedpu.partition import Share
from stages.papers.fedpu.settings import Scene

BIMODAL = (0.50, 0.15, 0.03, 0.03, 0.03, 0.02, 0.03, 0.03, 0.03, 0.15)  # of client type 0; others are cyclic shifts


def apportioned(total: int, shares: list[float]) -> list[int]:
    """Whole numbers that sum to `total` in these shares: rounded down, then the largest remainders get one more."""
    exact = [round(total * part, 6) for part in shares]
    counts = [int(value) for value in exact]
    order = sorted(range(len(shares)), key=lambda i: (counts[i] - exact[i], i))
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts


def unlabelled_counts(client: int, total: int, mixture: str, classes: int) -> list[int]:
    """Unlabelled images of every class with a client: equal (iid), or its type's shift of BIMODAL."""
    if mixture == "iid":
        return apportioned(total, [1.0 / classes] * classes)
    if classes != len(BIMODAL):
        raise StageError(f"params.scenes: mixture=bimodal: is for {len(BIMODAL)} classes, there are {classes}")
    first = apportioned(total, list(BIMODAL))
    return [first[(label - client) % classes] for label in range(classes)]


def fedmatch(y: numpy.ndarray, scene: Scene, clients: int, classes: int, seed: int) -> list[Share]:
    """Shares of all clients of labels y [N]: all classes are positive. Raises StageError if a class has too few images."""
    wanted = numpy.array([unlabelled_counts(k, scene.unlabelled, scene.mixture, classes) for k in range(clients)])
    need = wanted.sum(0) + clients * scene.labels
    random = numpy.random.RandomState(derive_seed(seed, "partition") % 2**32)
    pools = [random.permutation(numpy.flatnonzero(y == label)) for label in range(classes)]
    for label, pool in enumerate(pools):
        if len(pool) < need[label]:
            raise StageError(f"class {label}: {clients} clients need {need[label]} images, there are {len(pool)}")
    taken, found = numpy.zeros(classes, dtype=int), []
    for k in range(clients):
        images, marks = [], []
        for label, pool in enumerate(pools):
            count = scene.labels + wanted[k, label]
            images.append(pool[taken[label] : taken[label] + count])
            marks.append(numpy.arange(count) < scene.labels)
            taken[label] += count
        order = numpy.argsort(numpy.concatenate(images))
        found.append(Share(numpy.concatenate(images)[order], numpy.concatenate(marks)[order], tuple(range(classes))))
    return found
