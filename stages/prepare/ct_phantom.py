"""Generated chest scans: lungs, vessels, lesions, and artefacts that look like lesions but lie in one or two slices only.

A scan is cut from ellipsoids: in a unit square a body of .75 with two lungs of .15 and vessels of .55 that drift through
z; lesions of .33 with an uneven boundary, clipped to the lungs. Artefacts have the lesions' intensity, texture and outline,
so that a single slice does not tell one from the other. A blur and noise follow. 1 is 400 HU, 0 is air.
"""

from __future__ import annotations

import dataclasses

import numpy

BODY, LUNG, VESSEL, LESION = 0.75, 0.15, 0.55, 0.33
AIR_HU, SPAN_HU = -1000, 1400


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a scan is drawn. Lengths in the plane are parts of half its width, z-radii are slices."""

    depth: int = 12
    side: int = 32
    vessels: int = 14
    lesions: tuple[int, int] = (2, 5)  # fewest and most
    radius: tuple[float, float] = (0.09, 0.22)
    z_radius: tuple[float, float] = (1.0, 2.5)
    artefacts: tuple[int, int] = (4, 7)
    two_slices: float = 0.3  # share of artefacts that span two slices, with one shape in both
    texture: float = 0.05
    blur: float = 0.6  # pixels
    noise: float = 0.07


@dataclasses.dataclass(frozen=True)
class Scan:
    """Hounsfield units int16 and masks uint8, all [D, H, W]."""

    hu: numpy.ndarray
    lesion: numpy.ndarray
    lung: numpy.ndarray
    artefact: numpy.ndarray


def draw(recipe: Recipe, random: numpy.random.RandomState) -> Scan:
    """One scan; the same generator state gives the same one."""
    from scipy.ndimage import gaussian_filter

    z, y, x = _grid(recipe)
    values = numpy.where(_inside(y, x, (0.0, 0.0), (0.78, 0.92)), BODY, 0.0)
    lung = _lungs(recipe, random, z, y, x)
    values[lung] = LUNG
    for _ in range(recipe.vessels):
        values[_vessel(recipe, random, z, y, x) & lung] = VESSEL
    lesion = numpy.zeros_like(lung)
    for _ in range(random.randint(recipe.lesions[0], recipe.lesions[1] + 1)):
        lesion |= _lesion(recipe, random, z, y, x, lung)
    artefact = numpy.zeros_like(lung)
    for _ in range(random.randint(recipe.artefacts[0], recipe.artefacts[1] + 1)):
        artefact |= _artefact(recipe, random, z, y, x, lung)
    artefact &= ~lesion
    texture = recipe.texture * _smooth(random, values.shape, 1.0)
    values = numpy.where(lesion | artefact, LESION + texture, values)
    values = gaussian_filter(values, (0.0, recipe.blur, recipe.blur)) + recipe.noise * random.normal(size=values.shape)
    hu = numpy.rint(AIR_HU + SPAN_HU * values).astype(numpy.int16)
    return Scan(hu, *(mask.astype(numpy.uint8) for mask in (lesion, lung, artefact)))


def _grid(recipe: Recipe) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """z in slices, y and x from -1 to 1, each [D, H, W]."""
    place = (numpy.arange(recipe.side) + 0.5) / recipe.side * 2 - 1
    return tuple(numpy.meshgrid(numpy.arange(recipe.depth, dtype=float), place, place, indexing="ij"))  # type: ignore[return-value]


def _inside(y: numpy.ndarray, x: numpy.ndarray, centre: tuple[float, float], radii: tuple[float, float]) -> numpy.ndarray:
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1.0


def _lungs(
    recipe: Recipe, random: numpy.random.RandomState, z: numpy.ndarray, y: numpy.ndarray, x: numpy.ndarray
) -> numpy.ndarray:
    """Two ellipsoids, left and right, whose poles lie outside the scan."""
    found = numpy.zeros(z.shape, dtype=bool)
    reach = (z - (recipe.depth - 1) / 2) / recipe.depth
    for side in (-1.0, 1.0):
        tall, wide = random.uniform(0.5, 0.62), random.uniform(0.28, 0.36)
        found |= (y / tall) ** 2 + ((x - side * 0.43) / wide) ** 2 + reach**2 < 1.0
    return found


def _vessel(
    recipe: Recipe, random: numpy.random.RandomState, z: numpy.ndarray, y: numpy.ndarray, x: numpy.ndarray
) -> numpy.ndarray:
    """A thin tube that drifts through all slices."""
    start, drift = random.uniform(-0.6, 0.6, 2), random.uniform(-0.05, 0.05, 2)
    radius = random.uniform(0.03, 0.06)
    return _inside(y - drift[0] * z, x - drift[1] * z, (start[0], start[1]), (radius, radius))


def _spot(recipe: Recipe, random: numpy.random.RandomState, lung: numpy.ndarray) -> tuple[int, float, float]:
    """A slice and a place in its lungs."""
    places = numpy.argwhere(lung)
    z, y, x = places[random.randint(len(places))]
    return int(z), (y + 0.5) / recipe.side * 2 - 1, (x + 0.5) / recipe.side * 2 - 1


def _lesion(
    recipe: Recipe, random: numpy.random.RandomState, z: numpy.ndarray, y: numpy.ndarray, x: numpy.ndarray, lung: numpy.ndarray
) -> numpy.ndarray:
    """An ellipsoid with an uneven boundary; half a slice is added to its z-radius, so that it fills three slices or more."""
    (cz, cy, cx), (ry, rx) = _spot(recipe, random, lung), random.uniform(*recipe.radius, 2)
    rz = random.uniform(*recipe.z_radius) + 0.5
    distance = ((z - cz) / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2
    return (distance + 0.25 * _smooth(random, z.shape, 2.0) < 1.0) & lung


def _artefact(
    recipe: Recipe, random: numpy.random.RandomState, z: numpy.ndarray, y: numpy.ndarray, x: numpy.ndarray, lung: numpy.ndarray
) -> numpy.ndarray:
    """A lesion's outline in one slice, or the same outline in two."""
    (cz, cy, cx), (ry, rx) = _spot(recipe, random, lung), random.uniform(*recipe.radius, 2)
    last = cz + int(random.uniform() < recipe.two_slices)
    distance = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 + 0.25 * _smooth(random, z.shape[1:], 2.0)
    return (distance < 1.0) & (z >= cz) & (z <= last) & lung[cz]


def _smooth(random: numpy.random.RandomState, shape: tuple[int, ...], scale: float) -> numpy.ndarray:
    """A Gaussian field of deviation 1 and this correlation length in pixels."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(random.normal(size=shape), scale)
    return field / field.std()
