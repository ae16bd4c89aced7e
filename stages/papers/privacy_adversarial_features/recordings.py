"""Features of sensor windows, and their division in time within a subject's activity."""

import numpy

from stages.lib.errors import StageError
from stages.lib.sensors.windows import Windows
from stages.papers.privacy_adversarial_features.settings import Recordings

FLOOR = 1e-6  # beside energies and deviations before the logarithm, in units of the channel
SLOW = 4  # periods in a window of the fastest change that counts as slow


def features(windows: Windows, settings: Recordings) -> numpy.ndarray:
    """float32 [N, F] of the chosen C channels.

    Of each channel the mean, the log deviation, log energies of frequency bands and of the slow changes of its square; of each
    channel and the next their correlation in phase and a quarter of a period apart, which tells who leads.
    """
    x = windows.select(list(settings.channels)).x.astype(numpy.float64)
    mean, deviation = x.mean(2, keepdims=True), numpy.log(x.std(2, keepdims=True) + FLOOR)
    spectrum = numpy.fft.rfft(x - mean, axis=2)[:, :, 1:] / x.shape[2]
    if settings.highest > spectrum.shape[2]:
        raise StageError(f"params.highest={settings.highest}: expected at most the {spectrum.shape[2]} frequencies of a window")
    power = numpy.abs(spectrum) ** 2
    bands = numpy.array_split(power[:, :, : settings.highest], settings.bands, axis=2)
    energies = numpy.log(numpy.stack([part.sum(2) for part in bands], 2) + FLOOR)
    squared = numpy.abs(numpy.fft.rfft((x - mean) ** 2, axis=2)[:, :, 1 : SLOW + 1]) / x.shape[2]
    alone = numpy.concatenate((mean, deviation, energies, numpy.log(squared + FLOOR)), 2).reshape(len(x), -1)
    crossed = (spectrum[:, :-1] * spectrum[:, 1:].conj()).sum(2)
    crossed /= numpy.sqrt(power[:, :-1].sum(2) * power[:, 1:].sum(2)) + FLOOR
    return numpy.concatenate((alone, crossed.real, crossed.imag), 1).astype(numpy.float32)


def secret(windows: Windows, name: str) -> numpy.ndarray:
    """The secret of each window, int64 [N]: its subject, or what is known of the subject."""
    return windows.subject if name == "subject" else windows.attribute(name).astype(numpy.int64)


def divide(windows: Windows, share: float, nested: bool) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Places to train on and to measure on, each ascending.

    Of each subject's activity, in the order of recordings and time, the first `share` is to train on, the rest to
    measure on; a later window that overlaps an earlier side is left out. The publisher's own division has no subject on both
    sides and cannot measure who somebody is. `nested` divides the training side again in the same way and leaves the other
    untouched, for choosing settings.
    """
    index = numpy.lexsort((windows.start, windows.recording))
    train, held_out = _cut(windows, index, share)
    if nested:
        train, held_out = _cut(windows, train, share)
    if not len(train) or not len(held_out):
        raise StageError(f"{windows.name}: no window to measure on; use longer recordings or a smaller share")
    return numpy.sort(train), numpy.sort(held_out)


def _cut(windows: Windows, index: numpy.ndarray, share: float) -> tuple[numpy.ndarray, numpy.ndarray]:
    length, early, late = windows.x.shape[2], [], []
    keys = numpy.stack((windows.subject[index], windows.y[index]), 1)
    for key in numpy.unique(keys, axis=0):
        own = index[(keys == key).all(1)]
        border = max(1, round(share * len(own)))
        last = own[border - 1]
        apart = (windows.recording[own] != windows.recording[last]) | (windows.start[own] >= windows.start[last] + length)
        early.append(own[:border])
        late.append(own[border:][apart[border:]])
    return numpy.concatenate(early), numpy.concatenate(late)
