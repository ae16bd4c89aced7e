"""Recordings of wearable sensors: mending short gaps, filtering, halving the rate, cutting into windows.

A window lies within one recording of one activity.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy

from stages.lib.errors import StageError

# The half-band filter of 7 taps, in 1/32; what is left above the new Nyquist frequency folds back.
HALF_BAND = (-1, 0, 9, 16, 9, 0, -1)


@dataclasses.dataclass(frozen=True)
class Recording:
    """One continuous recording of one activity: values float64 [n, C]."""

    name: str  # the file below the root, with the samples where a file holds several
    subject: int
    activity: int  # 0..K-1
    group: int
    values: numpy.ndarray


@dataclasses.dataclass(frozen=True)
class Treatment:
    """What is done to a recording before it is cut."""

    max_gap: int  # longest run of missing samples that is interpolated
    halvings: int  # of the rate
    lowpass_hz: float | None  # 3rd-order Butterworth, forward and backward
    rate_hz: float  # of the file


@dataclasses.dataclass(frozen=True)
class Cut:
    """Windows of one recording: x float32 [M, C, T], start int64 [M] in samples of the treated recording."""

    x: numpy.ndarray
    start: numpy.ndarray


def treat(values: numpy.ndarray, how: Treatment, name: str, channels: Sequence[str]) -> numpy.ndarray:
    """Mended, filtered and thinned values [n', C]. Raises StageError naming the channel that cannot be mended."""
    found = mend(values, how.max_gap, name, channels)
    if how.lowpass_hz is not None:
        found = lowpass(found, how.lowpass_hz, how.rate_hz, name)
    for _ in range(how.halvings):
        found = halve(found)
    return found


def mend(values: numpy.ndarray, max_gap: int, name: str, channels: Sequence[str]) -> numpy.ndarray:
    """Interpolate runs of at most max_gap missing (NaN) samples linearly; at the ends the nearest value is repeated.

    Raises StageError for longer runs and for infinity.
    """
    if numpy.isinf(values).any():
        raise StageError(f"{name}: holds infinity in {channels[numpy.flatnonzero(numpy.isinf(values).any(0))[0]]}; mend it")
    result = values.copy()
    for column in numpy.flatnonzero(numpy.isnan(values).any(0)):
        missing = numpy.isnan(values[:, column])
        longest = max(stop - start for start, stop in runs(missing) if missing[start])
        if longest > max_gap:
            raise StageError(
                f"{name}: {longest} missing samples in a row in {channels[column]}; at most {max_gap} (params.max_gap) "
                "are interpolated"
            )
        places = numpy.arange(len(values))
        result[missing, column] = numpy.interp(places[missing], places[~missing], values[~missing, column])
    return result


def runs(marks: numpy.ndarray) -> Iterator[tuple[int, int]]:
    """(start, stop) of maximal runs of equal values of [n]."""
    edges = [0, *(numpy.flatnonzero(marks[1:] != marks[:-1]) + 1).tolist(), len(marks)]
    yield from itertools.pairwise(edges)


def lowpass(values: numpy.ndarray, cutoff_hz: float, rate_hz: float, name: str) -> numpy.ndarray:
    """3rd-order Butterworth low-pass without phase shift. Raises StageError for a cut-off at or above Nyquist."""
    from scipy.signal import butter, sosfiltfilt

    if not 0 < cutoff_hz < rate_hz / 2:
        raise StageError(f"params.lowpass_hz={cutoff_hz}: expected between 0 and {rate_hz / 2}, half the rate")
    sections = butter(3, cutoff_hz, fs=rate_hz, output="sos")
    try:
        return sosfiltfilt(sections, values, axis=0)
    except ValueError as error:
        raise StageError(f"{name}: {len(values)} samples are too few to filter; leave the recording out") from error


def halve(values: numpy.ndarray) -> numpy.ndarray:
    """Half the rate: [n, C] to [ceil(n / 2), C]. Edges are repeated."""
    padded = numpy.pad(values, ((3, 3), (0, 0)), mode="edge")
    summed = sum(weight * padded[tap : tap + len(values)] for tap, weight in enumerate(HALF_BAND) if weight)
    return summed[::2] / 32


def cut(values: numpy.ndarray, window: int, stride: int) -> Cut:
    """Windows of `window` samples every `stride`; what is left at the end is dropped, and a short recording gives none."""
    count = max(0, (len(values) - window) // stride + 1)
    start = numpy.arange(count, dtype=numpy.int64) * stride
    index = start[:, None] + numpy.arange(window)
    return Cut(values[index].transpose(0, 2, 1).astype(numpy.float32).reshape(count, values.shape[1], window), start)


def check_cutting(window: int, stride: int) -> None:
    """Raise StageError for impossible windows."""
    if window < 8 or not 1 <= stride <= window:
        raise StageError(f"params.window={window}, params.stride={stride}: expected 8 or more, and 1 to the window")
