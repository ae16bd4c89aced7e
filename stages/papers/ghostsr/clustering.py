"""Which filters stay intrinsic: k-means of a layer's pre-trained filters, the real filter nearest to each centre."""

import numpy

from stages.lib.errors import StageError

STARTS = 10
ITERATIONS = 100


def representatives(filters: numpy.ndarray, count: int, seed: int) -> list[int]:
    """Indices, ascending, of `count` filters [outputs, size] of which one stands for each cluster.

    The best of ten starts minimises the sum of squared distances to the clusters' centres; of equally near filters the
    first is taken. Raises StageError for a count that is impossible.
    """
    filters = numpy.asarray(filters, dtype=numpy.float64)
    if not 1 <= count <= len(filters):
        raise StageError(f"{count} clusters of {len(filters)} filters: expected between 1 and the number of filters")
    random = numpy.random.RandomState(seed % 2**32)
    found = [lloyd(filters, plus_plus(filters, count, random)) for _ in range(STARTS)]
    groups, centres, _ = min(found, key=lambda one: one[2])
    away = squared_distances(filters, centres)
    chosen = []
    for cluster in range(count):
        members = numpy.flatnonzero(groups == cluster)
        chosen.append(int(members[away[members, cluster].argmin()]))
    return sorted(chosen)


def squared_distances(left: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
    """[len(left), len(right)], never below 0."""
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2.0 * left @ right.T
    return squares.clip(min=0.0)


def plus_plus(filters: numpy.ndarray, count: int, random: numpy.random.RandomState) -> numpy.ndarray:
    """Starting centres (Arthur and Vassilvitskii 2007): each drawn in proportion to the squared distance to those before."""
    squares, doubled = (filters**2).sum(1), 2.0 * filters  # at 2304 numbers a filter they cost more than the products

    def distances(index: int) -> numpy.ndarray:
        return (squares + squares[index] - (doubled @ filters[[index]].T)[:, 0]).clip(min=0.0)

    chosen = [random.randint(len(filters))]
    nearest = distances(chosen[0])
    while len(chosen) < count:
        nearest[chosen] = 0.0
        if nearest.sum() > 0:
            chosen.append(int(random.choice(len(filters), p=nearest / nearest.sum())))
        else:  # all others equal one that is chosen
            chosen.append(next(index for index in range(len(filters)) if index not in chosen))
        nearest = numpy.minimum(nearest, distances(chosen[-1]))
    return filters[chosen]


def lloyd(filters: numpy.ndarray, centres: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, float]:
    """(cluster of every filter, centres, sum of squared distances) when assignments no longer change."""
    groups = assign(filters, centres)
    for _ in range(ITERATIONS):
        members = groups == numpy.arange(len(centres))[:, None]
        centres = members @ filters / members.sum(1, keepdims=True)
        before, groups = groups, assign(filters, centres)
        if (before == groups).all():
            break
    return groups, centres, float(((filters - centres[groups]) ** 2).sum())


def assign(filters: numpy.ndarray, centres: numpy.ndarray) -> numpy.ndarray:
    """The nearest centre of every filter; a cluster left empty gets the farthest filter of a cluster of several."""
    away = squared_distances(filters, centres)
    groups = away.argmin(1)
    for cluster in range(len(centres)):
        sizes = numpy.bincount(groups, minlength=len(centres))
        if sizes[cluster] == 0:
            own = numpy.where(sizes[groups] > 1, away[numpy.arange(len(filters)), groups], -1.0)
            groups[own.argmax()] = cluster
    return groups
