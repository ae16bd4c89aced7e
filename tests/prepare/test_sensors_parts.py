"""Parts of the sensor sets: folds without leaks, normalisation, mending, halving, cutting, generated signals."""

from __future__ import annotations

import numpy
import pytest

from stages.lib.errors import StageError
from stages.lib.sensors import folds
from stages.prepare import sensor_output, sensor_signals
from stages.prepare.sensor_recordings import cut, halve, lowpass, mend, runs


@pytest.fixture(scope="module")
def labels() -> tuple[numpy.ndarray, numpy.ndarray]:
    """Uneven classes of 10 uneven groups."""
    random = numpy.random.RandomState(0)
    group = numpy.sort(random.randint(0, 10, 400))
    return (random.randint(0, 4, 400) + (group > 7)).astype(numpy.int64).clip(0, 3), group


def test_grouped_folds_share_no_group_and_cover_all(labels):
    y, group = labels
    found = folds.grouped_folds(y, group, 5, seed=3)
    assert set(found.tolist()) == set(range(5))
    for one in set(group.tolist()):
        assert len(set(found[group == one].tolist())) == 1
    sizes = numpy.bincount(found)
    assert sizes.max() < 2 * sizes.min()
    assert not numpy.array_equal(found, folds.grouped_folds(y, group, 5, seed=4))


def test_grouped_folds_are_as_even_as_scikit_learns(labels):
    from sklearn.model_selection import StratifiedGroupKFold

    y, group = labels

    def unevenness(assigned: numpy.ndarray) -> float:
        shares = [numpy.bincount(y[assigned == fold], minlength=4) / numpy.bincount(y) for fold in range(5)]
        return float(numpy.std(shares, axis=0).mean())

    other = numpy.zeros(len(y), int)
    for fold, (_, tested) in enumerate(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(y, y, group)):
        other[tested] = fold
    own = numpy.mean([unevenness(folds.grouped_folds(y, group, 5, seed)) for seed in range(3)])
    assert own < 1.25 * unevenness(other)


def test_window_folds_are_balanced_and_ignore_groups(labels):
    y, group = labels
    found = folds.window_folds(y, 5, seed=0)
    for fold in range(5):
        assert numpy.abs(numpy.bincount(y[found == fold], minlength=4) - numpy.bincount(y) / 5).max() < 1
        assert len(set(group[found == fold].tolist())) == 10


@pytest.mark.parametrize("protocol", folds.PROTOCOLS)
def test_divisions_are_disjoint_and_the_folds_of_a_seed_cover_all(labels, protocol):
    y, group = labels
    tested = []
    for fold in range(5):
        found = folds.divide(y, group, protocol, folds=5, inner=4, fold=fold, seed=1)
        whole = numpy.concatenate([found.train, found.val, found.test])
        assert sorted(whole.tolist()) == list(range(400))
        if protocol == "grouped":
            parts = [set(group[part].tolist()) for part in (found.train, found.val, found.test)]
            assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        tested.append(found.test)
    assert sorted(numpy.concatenate(tested).tolist()) == list(range(400))


def test_impossible_divisions(labels):
    y, group = labels
    more = {"folds": 5, "inner": 4, "fold": 0, "seed": 0}
    for words, said in (({"folds": 11}, "folds=11"), ({"fold": 5}, "fold=5"), ({"inner": 1}, "folds=1")):
        with pytest.raises(StageError, match=said):
            folds.divide(y, group, "grouped", **(more | words))
    with pytest.raises(StageError, match="protocol=subjects"):
        folds.divide(y, group, "subjects", **more)
    with pytest.raises(StageError, match="leaves class"):
        folds.divide((group == 0).astype(numpy.int64), group, "grouped", **more | {"fold": int(folds.assign(
            (group == 0).astype(numpy.int64), group, "grouped", 5, folds.derive_seed(0, "folds"))[0])})  # fmt: skip


def test_moments_and_constant_channels():
    x = numpy.random.RandomState(0).normal(3, 2, (50, 2, 20)).astype(numpy.float32)
    scaled = folds.standardise(x, *folds.moments(x))
    assert numpy.abs(scaled.mean((0, 2))).max() < 1e-5 and numpy.abs(scaled.std((0, 2)) - 1).max() < 1e-5
    x[:, 1] = 9.81
    with pytest.raises(StageError, match="channel 1 is constant"):
        folds.moments(x)


def test_gaps_are_interpolated_up_to_a_length():
    values = numpy.arange(12.0).reshape(-1, 1) * 2
    broken = values.copy()
    broken[[0, 4, 5, 11]] = numpy.nan
    mended = mend(broken, 2, "x.csv", ["a"])
    assert mended.ravel().tolist() == [2, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 20]
    with pytest.raises(StageError, match=r"x.csv: 2 missing samples in a row in a; at most 1"):
        mend(broken, 1, "x.csv", ["a"])
    with pytest.raises(StageError, match="holds infinity in a"):
        mend(numpy.full((3, 1), numpy.inf), 1, "x.csv", ["a"])


def test_halving_keeps_slow_waves_and_removes_the_fastest():
    time = numpy.arange(400)
    slow = numpy.sin(2 * numpy.pi * time / 40).reshape(-1, 1)
    assert numpy.abs(halve(slow)[4:-4] - slow[::2][4:-4]).max() < 0.01
    assert numpy.abs(halve(((-1.0) ** time).reshape(-1, 1))[4:-4]).max() < 1e-12


def test_low_pass():
    time = numpy.arange(500) / 50
    slow, fast = (numpy.sin(2 * numpy.pi * f * time).reshape(-1, 1) for f in (2, 22))
    assert numpy.abs(lowpass(slow + fast, 10, 50, "x") - slow)[50:-50].max() < 0.03
    with pytest.raises(StageError, match="lowpass_hz=25"):
        lowpass(slow, 25, 50, "x")
    with pytest.raises(StageError, match="too few to filter"):
        lowpass(slow[:3], 10, 50, "x")


def test_windows_lie_inside_their_recording():
    values = numpy.arange(20.0).reshape(-1, 1)
    found = cut(values, 8, 4)
    assert found.start.tolist() == [0, 4, 8, 12] and found.x.shape == (4, 1, 8)
    assert found.x[2, 0].tolist() == list(range(8, 16))
    assert len(cut(values[:7], 8, 4).start) == 0
    assert list(runs(numpy.array([3, 3, 1, 1, 1, 2]))) == [(0, 2), (2, 5), (5, 6)]


def test_the_last_groups_are_held_out():
    group = numpy.repeat(numpy.arange(10), 3)
    found = sensor_output.split_groups(group, {"val": 0.125, "test": 0.25})
    assert found.reshape(10, 3)[:, 0].tolist() == [0] * 7 + [1] + [2] * 2
    fixed = sensor_output.split_groups(group, {"val": 0.125, "test": 0.25}, group < 2)
    assert fixed.reshape(10, 3)[:, 0].tolist() == [2, 2] + [0] * 7 + [1]
    with pytest.raises(StageError, match="use more"):
        sensor_output.split_groups(group[:6], {"val": 0.125, "test": 0.25})


def test_generated_activities_differ_in_their_parts_only():
    """Phase order does not show in magnitudes of one channel; the tone shows in its spectrum."""
    who = sensor_signals.Person(numpy.full(3, 1024), numpy.zeros(3, numpy.int64), 1024)

    def power(activity: int) -> numpy.ndarray:
        drawn = [sensor_signals.signal(numpy.random.RandomState(seed), activity, who, 128, 128)[:, 0] for seed in range(150)]
        return numpy.mean([numpy.abs(numpy.fft.rfft(one))[1:30] for one in drawn], axis=0)

    spectra = [power(activity) for activity in (0, 1, 4)]
    assert numpy.abs(spectra[0] / spectra[1] - 1).max() < 0.35
    assert int(spectra[0][9:].argmax()) + 10 == 13 and int(spectra[2][9:].argmax()) + 10 == 16
    assert len({sensor_signals.code(activity) for activity in range(12)}) == 12
