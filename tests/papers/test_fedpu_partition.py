"""Divisions among clients: disjoint, covering, rounded down; FedMatch's arithmetic; what cannot be divided."""

import numpy
import pytest
import torch

from stages.lib.data import noise
from stages.lib.errors import StageError
from stages.papers.fedpu import clients, fedmatch, partition
from stages.papers.fedpu.settings import Federation, Scene

COUNTS = [4, 4, 3, 3, 2, 2, 1, 1, 1, 1]
Y = numpy.arange(3000) % 10
CPU = torch.device("cpu")


def scene(**changes: object) -> Scene:
    return Scene(**{"classes_per_client": 10, "positives": COUNTS, "label_rate": 0.33, **changes})


@pytest.mark.parametrize("per_client", [10, 5, 3, 2])
def test_shares_are_disjoint_and_every_class_is_positive_somewhere(per_client):
    shares = partition.shards(Y, scene(classes_per_client=per_client), 10, 10, 0)
    images = numpy.concatenate([one.images for one in shares])
    assert len(numpy.unique(images)) == len(images) == 3000
    assert {label for one in shares for label in one.positives} == set(range(10))
    for number, one in enumerate(shares):
        y, held = Y[one.images], set(Y[one.images])
        assert len(held) == per_client and set(one.positives) <= held
        assert len(one.positives) == min(COUNTS[number], per_client)
        for label in held:
            count = int(one.labelled[y == label].sum())
            assert count == (int(0.33 * (y == label).sum()) if label in one.positives else 0)


def test_on_balanced_data_shares_are_the_official_equal_shards_and_pointer():
    shares = partition.shards(Y, scene(), 10, 10, 0)
    assert all(numpy.bincount(Y[one.images]).tolist() == [30] * 10 for one in shares)
    assert [one.positives for one in shares[:4]] == [(0, 1, 2, 3), (4, 5, 6, 7), (0, 8, 9), (1, 2, 3)]
    assert sum(len(one.positives) for one in shares) == 22


def test_the_seed_decides():
    one, same, other = (partition.shards(Y, scene(), 10, 10, seed) for seed in (1, 1, 2))
    assert all(numpy.array_equal(a.images, b.images) and numpy.array_equal(a.labelled, b.labelled) for a, b in zip(one, same))
    assert not numpy.array_equal(one[0].images, other[0].images)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"positives": [1]}, None),
        ({"positives": [1], "clients": 9}, "class 9 is positive in no client"),
        ({"least": 31}, "client 0: has no positive class"),
        ({"label_rate": 0.03}, "no image of positive class"),
        ({"label_rate": 1.0, "positives": [10]}, "no unlabelled image"),
        ({"classes_per_client": 11}, "expected 1 to 10"),
    ],
)
def test_divisions_that_cannot_be_learnt_from(changes, said):
    changes = dict(changes)
    number = changes.pop("clients", 10)
    if said is None:
        partition.shards(Y, scene(**changes), number, 10, 0)
        return
    with pytest.raises(StageError, match=said):
        partition.shards(Y, scene(**changes), number, 10, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"priors": [0.2] * 10}, "sum to 2"), ({"priors": [-0.1, 1.1]}, "sum to 1"), ({"positives": [0]}, "cannot learn")],
)
def test_scenes_with_impossible_values(changes, said):
    with pytest.raises(StageError, match=said):
        scene(**changes).check()


# --- FedMatch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixture", ["iid", "bimodal"])
def test_fedmatch_uses_every_image_once(mixture):
    y = numpy.arange(56000) % 10
    shares = fedmatch.fedmatch(y, scene(partition="fedmatch", mixture=mixture), 100, 10, 0)
    images = numpy.concatenate([one.images for one in shares])
    assert len(numpy.unique(images)) == len(images) == 56000
    assert {int(one.labelled.sum()) for one in shares} == {50} and {len(one.images) for one in shares} == {560}
    hidden = numpy.bincount(y[shares[13].images[~shares[13].labelled]])
    assert int(hidden.argmax()) == 3 or mixture == "iid"
    assert hidden.max() == (255 if mixture == "bimodal" else 51)
    assert (numpy.bincount(y[shares[13].images[shares[13].labelled]]) == 5).all()


def test_fedmatch_refuses_too_few_images():
    with pytest.raises(StageError, match="need 5600 images, there are 300"):
        fedmatch.fedmatch(Y, scene(partition="fedmatch"), 100, 10, 0)


# --- what a client knows --------------------------------------------------------------------------


def made(factor: float = 1.0, **changes: object) -> list[clients.Client]:
    params = Federation(images=300, clients=10)
    return clients.make_clients(noise([1, 8, 8], 10, 600), params, scene(**{"label_rate": 0.34, **changes}), factor, 0, CPU)


def test_priors_are_shares_and_targets_hide_labels():
    for one in made():
        assert float(one.known.priors.sum()) == pytest.approx(1) == float(one.known.priors_unlabelled.sum())
        hidden, labels = one.target[one.target >= 10] - 10, one.target % 10
        assert torch.allclose(one.known.priors, torch.bincount(labels, minlength=10) / len(one))
        assert torch.allclose(one.known.priors_unlabelled, torch.bincount(hidden, minlength=10) / len(hidden))
        assert set(one.target[one.target < 10].tolist()) == set(one.known.positive.nonzero().flatten().tolist())


def test_misspecified_priors_still_sum_to_one():
    for plain, wrong in zip(made(), made(2.0), strict=True):
        mask = plain.known.positive
        assert torch.allclose(wrong.known.priors[mask], 2 * plain.known.priors[mask])
        assert float(wrong.known.priors.sum()) == pytest.approx(1)
    with pytest.raises(StageError, match="at most 1"):
        made(4.0)


def test_given_priors_are_taken_and_counted():
    priors = [0.55] + [0.05] * 9
    assert made(priors=priors)[3].known.priors.tolist() == pytest.approx(priors)
    with pytest.raises(StageError, match="one for each of 10 classes"):
        made(priors=[0.5, 0.5])
