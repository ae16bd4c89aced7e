"""Rain streaks: short bright lines of nearly one direction, drawn in whole numbers so that every machine draws the same."""

from __future__ import annotations

import dataclasses

import numpy

FRACTION = 65536  # steps between two columns
AREA = 96 * 96  # pixels


@dataclasses.dataclass(frozen=True)
class Rain:
    """How streaks are drawn. Lengths in rows, brightness in grey levels, slopes in columns a row times FRACTION."""

    density: tuple[int, int] = (30, 80)  # least and most streaks in AREA
    length: tuple[int, int] = (6, 20)
    brightness: tuple[int, int] = (26, 102)  # 0.1 to 0.4 of white
    slope: int = 30560  # tan 25 degrees: the common direction lies this far from the vertical at most
    jitter: int = 3435  # tan 3 degrees: a streak lies this far from the common direction at most
    fade: int = 3  # rows over which the blurred ends of a streak fade in and out


def streaks(height: int, width: int, seed: int, rain: Rain = Rain()) -> numpy.ndarray:
    """A grey layer of rain uint8 [height, width], to be added to an image; equal seeds draw equal rain."""
    random = numpy.random.RandomState(seed % 2**32)
    margin = rain.length[1]  # streaks may begin outside, so that the borders get as many as the middle
    area = (height + margin) * (width + 2 * margin)
    most = random.randint(rain.density[0], rain.density[1] + 1)
    count = -(-most * area // AREA)
    common = random.randint(-rain.slope, rain.slope + 1)
    layer = numpy.zeros((height, width + 2), numpy.int64)  # a column more on each side, for streaks half outside
    for _ in range(count):
        length = random.randint(rain.length[0], rain.length[1] + 1)
        top = random.randint(-margin, height)
        left = random.randint(-margin * FRACTION, (width + margin) * FRACTION)
        slope = common + random.randint(-rain.jitter, rain.jitter + 1)
        bright = random.randint(rain.brightness[0], rain.brightness[1] + 1)
        _draw(layer, numpy.arange(length), top, left, slope, bright, rain.fade)
    return numpy.clip((layer[:, 1:-1] + FRACTION // 2) // FRACTION, 0, 255).astype(numpy.uint8)


def _draw(layer: numpy.ndarray, step: numpy.ndarray, top: int, left: int, slope: int, bright: int, fade: int) -> None:
    """Add one streak, a pixel wide; each of its rows is shared between the two columns that it lies between."""
    height, width = layer.shape
    shade = bright * numpy.minimum(fade, numpy.minimum(step + 1, len(step) - step)) // fade
    rows, places = top + step, left + FRACTION + slope * step
    columns, part = places // FRACTION, places % FRACTION
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width - 1)
    rows, columns, part, shade = (values[inside] for values in (rows, columns, part, shade))
    layer[rows, columns] += shade * (FRACTION - part)
    layer[rows, columns + 1] += shade * part
