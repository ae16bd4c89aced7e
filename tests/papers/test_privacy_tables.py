"""Tables of the privacy paper: the generated mixture, sensor features and their division, what is refused."""

import dataclasses

import numpy
import pytest
import torch

from stages.lib.errors import StageError
from stages.lib.sensors.windows import Windows
from stages.papers.privacy_adversarial_features import mixture, recordings, tables
from stages.papers.privacy_adversarial_features.settings import Mixture, Recordings

RECORDINGS = Recordings(channels=["a", "c"], bands=4, highest=16, secrets=["gender"], share=0.6)


@pytest.fixture
def windows() -> Windows:
    """Two subjects, two activities, two recordings of each with six windows of 32 samples that overlap by half."""
    parts = [(s, a, r, 16 * w) for s in (1, 2) for a in (0, 1) for r in range(2) for w in range(6)]
    subject, y, take, start = (numpy.array(column) for column in zip(*parts, strict=True))
    x = numpy.random.RandomState(0).normal(size=(len(y), 3, 32)).astype(numpy.float32)
    recording = 4 * subject + 2 * y + take - 4
    people = {1: {"gender": 1.0}, 2: {"gender": 0.0}}
    return Windows(x, y, subject, subject, recording, start, numpy.zeros_like(y), ("p", "q"), ("a", "b", "c"), 50.0, people,
                   "subject", "sample", "toy")  # fmt: skip


def written(path, **changes):
    x = numpy.random.RandomState(0).normal(size=(40, 5))
    u, s = numpy.arange(40) % 4, numpy.arange(40) // 4 % 2
    values = {"x": x, "u": u, "s": s, "train": numpy.arange(40) < 24, **changes}
    return tables.write(path / "0.npz", values["x"], values["u"], {"secret": values["s"]}, values["train"])


# --- division and features ------------------------------------------------------------------------


def test_no_measured_window_overlaps_the_training_side(windows):
    train, measured = recordings.divide(windows, 0.6, nested=False)
    spans = {(windows.recording[i], t) for i in train for t in range(windows.start[i], windows.start[i] + 32)}
    assert not spans & {(windows.recording[i], t) for i in measured for t in range(windows.start[i], windows.start[i] + 32)}
    assert set(windows.subject[train]) == set(windows.subject[measured]) == {1, 2}
    early, val = recordings.divide(windows, 0.6, nested=True)
    assert set(early) | set(val) <= set(train) and not set(early) & set(val) and not set(val) & set(measured)


def test_features_are_moments_energies_and_who_leads(windows):
    found = recordings.features(windows, RECORDINGS)
    alone, crossed = found[:, : 2 * 10].reshape(len(windows), 2, 10), found[:, 2 * 10 :]
    assert crossed.shape == (len(windows), 2) and (numpy.linalg.norm(crossed, axis=1) <= 1 + 1e-6).all()
    assert numpy.allclose(alone[:, 1, 0], windows.x[:, 2].mean(1), atol=1e-5)
    assert numpy.allclose(numpy.exp(alone[:, 0, 1]), windows.x[:, 0].std(1), atol=1e-4)
    power = numpy.exp(alone[:, 0, 2:6]).sum(1)  # Parseval: twice the one-sided energies, the last frequency once
    assert numpy.all(power <= windows.x[:, 0].var(1) + 1e-4) and numpy.all(2.1 * power > windows.x[:, 0].var(1))
    time = 2 * numpy.pi * numpy.arange(32) / 32
    turning = numpy.stack((numpy.cos(4 * time), time * 0, numpy.cos(4 * time - numpy.pi / 2)))[None]
    windows = dataclasses.replace(windows.take(numpy.arange(1)), x=turning.astype(numpy.float32))
    assert recordings.features(windows, RECORDINGS)[0, -2:] == pytest.approx([0, 1], abs=1e-4)  # the first leads


def test_features_and_secrets_that_do_not_exist(windows):
    with pytest.raises(StageError, match="highest=17"):
        recordings.features(windows, dataclasses.replace(RECORDINGS, highest=17))
    assert recordings.secret(windows, "gender").tolist() == [2 - s for s in windows.subject.tolist()]
    with pytest.raises(StageError, match="weight"):
        recordings.secret(windows, "weight")


def test_a_repetitions_share_keeps_classes_in_proportion():
    u = numpy.arange(100) % 4
    one, other = (tables.thinned(u, numpy.arange(80), 40, repetition) for repetition in (1, 2))
    assert len(one) == 40 and numpy.bincount(u[one]).tolist() == [10] * 4 and one.tolist() != other.tolist()


# --- the mixture ----------------------------------------------------------------------------------


def test_the_mixture_leaks_by_amplitude_and_parts_are_drawn_apart():
    settings = Mixture(train=4000, evaluation=50, features=10, utilities=2, secrets=2, code=3, leak=0.5)
    x, u, s, train = mixture.draw(settings, 1, "val")
    assert x.shape == (4050, 10) and int(train.sum()) == 4000
    assert abs(float(torch.corrcoef(torch.stack((u.double(), s.double())))[0, 1])) < 0.05
    other = mixture.draw(settings, 1, "test")
    assert torch.equal(other[0][train], x[train]) and not torch.equal(other[0][~train], x[~train])
    assert not torch.equal(mixture.draw(settings, 2, "val")[0], x)


# --- tables ---------------------------------------------------------------------------------------


def test_a_task_is_standardised_by_its_training_samples(tmp_path):
    x = numpy.random.RandomState(1).normal(3.0, 2.0, (40, 5))
    x[:, 2] = 7.0  # constant
    task = tables.read(written(tmp_path, x=x, u=numpy.arange(40) % 4 + 5), "secret")
    assert task.train.shape == (24, 4) and task.evaluation.shape == (16, 4) and task.constant == 1
    assert torch.allclose(task.train.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(task.train.std(0, correction=0), torch.ones(4), atol=1e-5)
    assert (task.utilities, task.secrets) == (4, 2) and task.u.unique().tolist() == [0, 1, 2, 3]
    assert torch.allclose(task.train.double() * task.deviation + task.mean, torch.from_numpy(x[:24, [0, 1, 3, 4]]), atol=1e-5)


def test_what_the_label_alone_tells_of_the_secret(tmp_path):
    u = numpy.arange(40) % 4
    s = numpy.where(u == 0, 1, numpy.arange(40) // 4 % 2)
    leak = tables.read(written(tmp_path, u=u, s=s), "secret").bayes_leak
    assert 0.25 < leak < 1 and leak == pytest.approx(0.25 + 0.75 * 0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"s": numpy.arange(40) % 4}, "follows from the utility label"),
        ({"s": numpy.arange(40) % 2}, "follows from the utility label"),
        ({"s": numpy.zeros(40, int)}, "has 1 class"),
        ({"u": numpy.zeros(40, int)}, "has 1 class"),
        ({"s": numpy.arange(40) // 24}, "has 1 class"),
        ({"s": numpy.arange(40) // 12}, "every measured class"),
        ({"x": numpy.ones((40, 5))}, "constant"),
        ({"x": numpy.full((40, 5), numpy.nan)}, "not finite"),
        ({"train": numpy.ones(40, bool)}, "both sides"),
    ],
)
def test_tables_that_no_map_can_be_learned_from(tmp_path, changes, said):
    with pytest.raises(StageError, match=said):
        tables.read(written(tmp_path, **changes), "secret")


def test_a_table_without_the_secret_or_truncated(tmp_path):
    path = written(tmp_path)
    assert tables.secrets_of(path) == ["secret"]
    with pytest.raises(StageError, match="secret_other"):
        tables.read(path, "other")
    path.write_bytes(path.read_bytes()[:-30])
    for reading in (lambda: tables.read(path, "secret"), lambda: tables.secrets_of(path)):
        with pytest.raises(StageError, match="intact"):
            reading()
