"""Discriminant information: three forms of one number, its derivative, exact losses, invariances, refusals."""

from itertools import pairwise

import pytest
import torch
from sklearn.linear_model import Ridge

from stages.lib import discriminant
from stages.lib.discriminant import analyse, centred_features, centred_labels, primal, relative_ridge, ridge_gap
from stages.lib.errors import StageError

CLASSES = 4
SHAPES = [(60, 5, 3), (20, 6, 5), (12, 3, 30)]  # tall, wide, and channels wider than the batch
RIDGES = [0.01, 1.0, 30.0]


def batch(count: int, channels: int, pixels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    means = torch.randn(CLASSES, channels, pixels, generator=generator, dtype=torch.float64)
    return means[labels] + torch.randn(count, channels, pixels, generator=generator, dtype=torch.float64), labels


@pytest.fixture(params=SHAPES, ids=str)
def data(request):
    return batch(*request.param)


@pytest.mark.parametrize("rho", RIDGES)
def test_primal_dual_and_ridge_forms_agree(data, rho):
    found = analyse(*data, CLASSES, rho)
    assert primal(found.rows, found.labels, rho) == pytest.approx(found.value, rel=1e-9)
    assert ridge_gap(found.rows, found.labels, rho) == pytest.approx(found.value, rel=1e-9)
    assert found.total - rho * found.inverse_trace == pytest.approx(found.value, rel=1e-12)


def test_the_ridge_classifier_is_sklearns(data):
    features, labels = data
    found = analyse(features, labels, CLASSES, 0.7)
    hot = torch.nn.functional.one_hot(labels, CLASSES).double().numpy()
    oracle = Ridge(alpha=0.7, fit_intercept=True).fit(features.flatten(1).numpy(), hot)
    assert torch.allclose(found.weights.flatten(0, 1).T, torch.from_numpy(oracle.coef_), atol=1e-8)


@pytest.mark.parametrize("rho", RIDGES)
def test_mask_gradient_is_autograds(data, rho):
    found = analyse(*data, CLASSES, rho)
    mask = torch.ones(found.rows.shape[1], dtype=torch.float64, requires_grad=True)
    flat = (found.rows * mask[None, :, None]).flatten(1)
    system = flat @ flat.T + rho * torch.eye(len(flat), dtype=torch.float64)
    value = found.total - rho * (found.labels * torch.linalg.solve(system, found.labels)).sum()
    value.backward()
    assert torch.allclose(found.mask_gradient(), mask.grad, rtol=1e-7, atol=1e-10)
    assert (found.mask_gradient() >= 0).all()


@pytest.mark.parametrize("rho", RIDGES)
def test_removal_losses_are_the_differences(data, rho):
    features, labels = data
    whole = analyse(features, labels, CLASSES, rho)
    channels = range(features.shape[1])
    without = [analyse(features[:, [d for d in channels if d != c]], labels, CLASSES, rho).value for c in channels]
    assert torch.allclose(whole.removal_losses(), whole.value - torch.tensor(without, dtype=torch.float64), atol=1e-8)


def test_elimination_removes_the_least_loss_each_time(data):
    features, labels = data
    left, gone = list(range(features.shape[1])), []
    while len(left) > 1:
        worst = int(analyse(features[:, left], labels, CLASSES, 0.5).removal_losses().argmin())
        gone.append(left.pop(worst))
    assert analyse(features, labels, CLASSES, 0.5).elimination_order().tolist() == [*left, *reversed(gone)]


def test_never_decreasing_in_nested_sets_and_bounded(data):
    features, labels = data
    values = [analyse(features[:, : c + 1], labels, CLASSES, 0.3) for c in range(features.shape[1])]
    assert all(a.value <= b.value + 1e-10 for a, b in pairwise(values))
    assert all(-1e-10 <= v.value <= v.total + 1e-10 and 0 <= v.share <= 1 for v in values)


def test_falls_with_the_ridge_and_vanishes(data):
    values = [analyse(*data, CLASSES, rho).value for rho in (0.01, 0.1, 1, 10, 1e3, 1e9)]
    assert all(a > b for a, b in pairwise(values))
    assert values[-1] < 1e-4


def test_a_constant_channel_carries_nothing(data):
    features, labels = data
    features = torch.cat((features, torch.full_like(features[:, :1], 7.0)), 1)
    found = analyse(features, labels, CLASSES, 0.5)
    assert found.mask_gradient()[-1] < 1e-15
    assert found.removal_losses()[-1] < 1e-15


def test_invariances(data):
    features, labels = data
    value = analyse(features, labels, CLASSES, 0.5).value
    count, channels, pixels = features.shape
    rotation = torch.linalg.qr(torch.randn(channels * pixels, channels * pixels, dtype=torch.float64)).Q
    order = torch.randperm(count)
    relabelled = torch.tensor([2, 0, 3, 1])[labels]
    for other in (
        (features.flatten(1) @ rotation).view_as(features),
        features + torch.randn(1, channels, pixels, dtype=torch.float64),
    ):
        assert analyse(other, labels, CLASSES, 0.5).value == pytest.approx(value, rel=1e-9)
    assert analyse(features[order], labels[order], CLASSES, 0.5).value == pytest.approx(value, rel=1e-9)
    assert analyse(features, relabelled, CLASSES, 0.5).value == pytest.approx(value, rel=1e-9)


def test_one_of_two_copies_is_nearly_free():
    features, labels = batch(200, 4, 2)
    doubled = torch.cat((features, features[:, :1]), 1)
    found = analyse(doubled, labels, CLASSES, 1e-3)
    alone = analyse(doubled[:, :1], labels, CLASSES, 1e-3).value
    assert found.removal_losses()[0] < 1e-4 * alone
    order = found.elimination_order().tolist()
    assert order[-1] in (0, 4)  # a copy goes first, the other stays in the race
    assert sorted(order) == list(range(5))


def test_relative_ridge_follows_the_scale():
    features, labels = batch(60, 5, 3)
    shares = [analyse(f, labels, CLASSES, relative_ridge(f, 0.03)).share for f in (features, 1000 * features)]
    assert shares[0] == pytest.approx(shares[1], rel=1e-9)
    rows = centred_features(features)
    assert relative_ridge(features, 0.03) == pytest.approx(0.03 * float(discriminant.kernel(rows).trace()) / 60)


def test_single_precision_input_is_computed_in_double():
    features, labels = batch(60, 5, 3)
    found = analyse(features.float(), labels, CLASSES, 0.5)
    assert found.rows.dtype == found.removal_losses().dtype == torch.float64
    assert found.value == pytest.approx(analyse(features, labels, CLASSES, 0.5).value, rel=1e-5)


@pytest.mark.parametrize("rho", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_ridge_is_refused(data, rho):
    with pytest.raises(StageError, match="rho"):
        analyse(*data, CLASSES, rho)
    with pytest.raises(StageError, match="rho"):
        relative_ridge(data[0], rho)


def test_bad_batches_are_refused(data):
    features, labels = data
    holed = features.clone()
    holed[0, 0, 0] = float("nan")
    for bad in (holed, features.new_zeros(0, 3), features[:, 0, 0]):
        with pytest.raises(StageError, match="features"):
            centred_features(bad)
    with pytest.raises(StageError, match="one class"):
        centred_labels(torch.zeros_like(labels), CLASSES)
    with pytest.raises(StageError, match="labels"):
        analyse(features, labels[1:], CLASSES, 1.0)
    with pytest.raises(StageError, match="constant"):
        relative_ridge(torch.ones(4, 2, 2), 0.1)
    with pytest.raises(StageError, match="rho"):
        analyse(1e9 * features, labels, CLASSES, 1e-12)
