"""Two-dimensional densities to be learned, with deviations near 1 in each direction."""

import math

import numpy

from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed

DENSITIES = ("moons", "gaussians")


def find_density(name: str) -> str:
    """The name itself; StageError for another."""
    if name not in DENSITIES:
        raise StageError(f"dataset={name}: there is no such density; choose one of {', '.join(DENSITIES)}")
    return name


def points(name: str, count: int, repetition: int, purpose: str) -> numpy.ndarray:
    """float32 [count, 2]; train, val and test of a repetition are drawn independently.

    moons: two interleaved half circles with noise 0.1; gaussians: eight of deviation 0.2 on a circle of radius sqrt 2.
    """
    random = numpy.random.RandomState(derive_seed(repetition, find_density(name), purpose) % 2**32)
    if name == "gaussians":
        angle = random.randint(0, 8, count) * (math.pi / 4)
        found = math.sqrt(2) * numpy.stack([numpy.cos(angle), numpy.sin(angle)], 1) + random.normal(0, 0.2, (count, 2))
    else:
        side, angle = random.randint(0, 2, count), random.uniform(0, math.pi, count)
        half = numpy.stack([numpy.cos(angle), numpy.sin(angle)], 1)
        moons = numpy.where(side[:, None] == 0, half, numpy.array([1.0, 0.5]) - half) + random.normal(0, 0.1, (count, 2))
        found = (moons - numpy.array([0.5, 0.25])) / numpy.array([0.87, 0.5])
    return found.astype(numpy.float32)
