"""Generated signals of wearable sensors whose label no single transformation shows whole.

An activity is a code of three parts. Its phase order (does one axis lead or lag the next) is invisible to what looks at
one channel's magnitudes or recurrences; its envelope is slow; its tone is fast. Subjects differ in gains, offsets and pace.
Integers throughout, so that every machine writes the same bytes: one unit of amplitude is UNIT.
"""

from __future__ import annotations

import dataclasses

import numpy

UNIT = 4096
TURN = 1 << 20  # a whole period, in units of phase
STEPS = 4096  # entries of the table of sines
TONES = (13, 16, 19)  # periods in a window
ENVELOPES = ((1, 1), (5, 2))  # periods in a window, as fractions
CARRIER = 5  # periods in a window, at a pace of 1
BURST = 8  # samples of a short disturbance
SINES = numpy.round(numpy.sin(2 * numpy.pi * numpy.arange(STEPS) / STEPS) * 16384).astype(numpy.int64)


@dataclasses.dataclass(frozen=True)
class Person:
    """What sets one subject apart: gains and offsets by channel [C] and the pace, in 1/1024."""

    gains: numpy.ndarray
    offsets: numpy.ndarray
    pace: int


def bell(random: numpy.random.RandomState, shape: tuple[int, ...], scale: int) -> numpy.ndarray:
    """Nearly normal integers with this deviation: twelve uniforms summed, which needs no logarithm."""
    return (random.randint(0, 65536, (*shape, 12)).sum(-1) - 6 * 65536) * scale >> 16


def person(random: numpy.random.RandomState, channels: int, gender: int) -> Person:
    """A subject; men (1) walk at a slower pace than women (0), by one deviation."""
    gains = numpy.round(1024 * numpy.exp(bell(random, (channels,), 256) / 1024)).astype(numpy.int64)
    offsets = bell(random, (channels,), 3 * UNIT // 10)
    pace = 1024 + int(bell(random, (), 61)) + (-51 if gender else 51)
    return Person(gains, offsets, pace)


def drifted(random: numpy.random.RandomState, who: Person) -> Person:
    """The same subject at another time: the sensors have slipped a little."""
    gains = who.gains * (1024 + bell(random, who.gains.shape, 102)) >> 10
    return Person(gains, who.offsets + bell(random, who.offsets.shape, UNIT // 8), who.pace + int(bell(random, (), 30)))


def code(activity: int) -> tuple[int, int, int]:
    """(phase order, envelope, tone) of an activity 0..11: the first six and eight use few tones."""
    return activity % 2, activity // 2 % 2, activity // 4


def signal(random: numpy.random.RandomState, activity: int, who: Person, samples: int, window: int) -> numpy.ndarray:
    """One recording int64 [samples, C] in 1/UNIT; `window` samples are the time in which periods are counted.

    Channels come in threes. A third and later three of a set hold noise and offsets only.
    """
    order, envelope, tone = code(activity)
    channels, time = len(who.gains), numpy.arange(samples)
    numerator, denominator = ENVELOPES[envelope]
    result = numpy.zeros((samples, channels), numpy.int64)
    for first in range(0, min(channels, 6), 3):
        starts = random.randint(0, TURN, 3)
        slow = 4 * 16384 + 3 * sine(starts[0] + time * (TURN * numerator) // (denominator * window))  # in 1/65536
        for axis in range(3):
            lag = axis * (TURN // 4) * (1 if order else -1)
            carrier = sine(starts[1] + lag + time * (TURN * CARRIER * who.pace) // (1024 * window))
            fast = sine(starts[2] + time * (TURN * TONES[tone]) // window)
            result[:, first + axis] = (slow * carrier >> 18) + (7 * fast * UNIT // (10 * 16384))
    result += bell(random, result.shape, 7 * UNIT // 10)
    result += bursts(random, result.shape, window)
    return (result * who.gains >> 10) + who.offsets


def sine(phase: numpy.ndarray) -> numpy.ndarray:
    """Sines in 1/16384 of phases in 1/TURN."""
    return SINES[(phase >> 8) % STEPS]


def bursts(random: numpy.random.RandomState, shape: tuple[int, int], window: int) -> numpy.ndarray:
    """In three of ten spans of a window's length, one jump of 8 samples on all channels, of deviation 3: int64 [n, C]."""
    result = numpy.zeros(shape, numpy.int64)
    for start in range(0, shape[0] - window + 1, window):
        place = start + random.randint(0, window - BURST + 1)
        jump = bell(random, (shape[1],), 3 * UNIT)
        if random.randint(0, 10) < 3:
            result[place : place + BURST] = jump
    return result
