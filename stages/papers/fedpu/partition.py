"""Which images a client has, which classes are positive with it, and which of its images are labelled (specification 3.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.fedpu.settings import Scene


@dataclass(frozen=True)
class Share:
    """One client's part: indices int64 [n] of its images, bool [n] which are labelled, its positive classes in order."""

    images: numpy.ndarray
    labelled: numpy.ndarray
    positives: tuple[int, ...]


def held_classes(clients: int, per_client: int, classes: int) -> list[tuple[int, ...]]:
    """The classes of every client: `per_client` consecutive ones, the next client beginning where the last one ended."""
    if not 1 <= per_client <= classes:
        raise StageError(f"params.scenes: classes_per_client={per_client}: expected 1 to {classes}")
    return [tuple(sorted((k * per_client + i) % classes for i in range(per_client))) for k in range(clients)]


def dealt(y: numpy.ndarray, held: Sequence[tuple[int, ...]], classes: int, seed: int) -> list[numpy.ndarray]:
    """Disjoint ascending image indices of every client; a class is divided as equally as possible among those that hold it.

    On balanced data these are the official code's equal shards. Raises StageError if some client would have no image.
    """
    random = numpy.random.RandomState(derive_seed(seed, "partition") % 2**32)
    found: list[list[numpy.ndarray]] = [[] for _ in held]
    for label in range(classes):
        members = random.permutation(numpy.flatnonzero(y == label))
        holders = [k for k, own in enumerate(held) if label in own]
        for k, part in zip(holders, numpy.array_split(members, max(1, len(holders))), strict=False):
            found[k].append(part)
    parts = [numpy.sort(numpy.concatenate(own)) for own in found]
    for k, part in enumerate(parts):
        if not len(part):
            raise StageError(f"client {k}: has no image; lower params.clients or raise params.images")
    return parts


def positive_classes(counts: numpy.ndarray, wanted: Sequence[int], least: int) -> list[tuple[int, ...]]:
    """Positive classes of every client from its class counts [K, C]: `wanted[k]` of the classes with `least` images or more.

    Those that are positive in the fewest clients so far come first, from a pointer that runs through the classes: with all
    classes everywhere this is the official code's running pointer, and with fewer it still covers them. Raises StageError for
    a client without positives, and for a class that is positive nowhere.
    """
    clients, classes = counts.shape
    times, pointer, found = numpy.zeros(classes, dtype=int), 0, []
    for k in range(clients):
        able = [label for label in range(classes) if counts[k, label] >= least]
        order = sorted(able, key=lambda label: (times[label], (label - pointer) % classes))
        own = order[: wanted[k % len(wanted)]]
        if not own:
            raise StageError(f"client {k}: has no positive class: no class has {least} images; lower params.scenes: least")
        times[own] += 1
        pointer = (own[-1] + 1) % classes
        found.append(tuple(sorted(own)))
    refuse_uncovered(found, classes)
    return found


def refuse_uncovered(positives: Sequence[tuple[int, ...]], classes: int) -> None:
    """StageError naming the classes that no client has a label for: they could never be learnt."""
    absent = sorted(set(range(classes)) - {label for own in positives for label in own})
    if absent:
        named = ", ".join(map(str, absent))
        raise StageError(f"class {named} is positive in no client and can never be learnt; raise params.scenes: positives")


def labelled(y: numpy.ndarray, positives: tuple[int, ...], rate: float, client: int, seed: int) -> numpy.ndarray:
    """Which of a client's images y [n] are labelled, bool [n]: floor(rate * n_i) of each positive class, drawn at random.

    Raises StageError if that is none of a class, or if no unlabelled image is left.
    """
    random = numpy.random.RandomState(derive_seed(seed, "labels", client) % 2**32)
    chosen = numpy.zeros(len(y), dtype=bool)
    for label in positives:
        members = numpy.flatnonzero(y == label)
        count = int(rate * len(members) + 1e-9)  # 0.1 * 30 is 3
        if not count:
            raise StageError(f"client {client}: no image of positive class {label} is labelled: {rate} of {len(members)}; "
                             "raise params.scenes: label_rate")  # fmt: skip
        chosen[random.permutation(members)[:count]] = True
    if chosen.all():
        raise StageError(f"client {client}: has no unlabelled image; lower params.scenes: label_rate")
    return chosen


def shards(y: numpy.ndarray, scene: Scene, clients: int, classes: int, seed: int) -> list[Share]:
    """The shares of all clients of labels y [N]."""
    parts = dealt(y, held_classes(clients, scene.classes_per_client, classes), classes, seed)
    counts = numpy.stack([numpy.bincount(y[part], minlength=classes) for part in parts])
    positives = positive_classes(counts, list(scene.positives), scene.least)
    return [
        Share(part, labelled(y[part], own, scene.label_rate, k, seed), own)
        for k, (part, own) in enumerate(zip(parts, positives, strict=True))
    ]
