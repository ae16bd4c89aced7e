"""Dependence criteria: identities, bounds, invariances, gradients, kernel and random-feature forms, eigenvectors."""

from itertools import pairwise

import numpy
import pytest
import scipy.linalg
import torch

from stages.lib import dependence, discriminant, hsic
from stages.lib.dependence import balanced_labels, between, information, kernel_information, scatter
from stages.lib.errors import StageError

N, D, C = 90, 5, 4


@pytest.fixture
def data():
    random = torch.Generator().manual_seed(0)
    y = torch.randint(C, (N,), generator=random)
    means = torch.randn(C, D, generator=random, dtype=torch.float64)
    return means[y] + torch.randn(N, D, generator=random, dtype=torch.float64), y


def value(z, y, rho=0.1):
    return float(information(z, [balanced_labels(y, C)], rho)[0])


@pytest.mark.parametrize("rho", [1e-3, 0.1, 10.0])
def test_information_is_what_the_best_ridge_regression_gains(data, rho):
    z, y = data
    labels, rows = balanced_labels(y, C), z - z.mean(0)
    assert float(labels.square().sum()) == pytest.approx(C - 1, abs=1e-12)
    best = torch.linalg.solve(rows.T @ rows + N * rho * torch.eye(D, dtype=torch.float64), rows.T @ labels)
    left = float((labels - rows @ best).square().sum() + N * rho * best.square().sum())
    assert value(z, y, rho) == pytest.approx(C - 1 - left, abs=1e-8)
    # The detached forms of the pruning criterion, on sums instead of means.
    assert value(z, y, rho) == pytest.approx(discriminant.primal(rows[:, :, None], labels, N * rho), abs=1e-10)
    assert value(z, y, rho) == pytest.approx(discriminant.ridge_gap(rows[:, :, None], labels, N * rho), abs=1e-8)


def test_between_is_the_scatter_of_class_means(data):
    z, y = data
    shifted = [(z[y == c].mean(0) - z.mean(0), int((y == c).sum())) for c in range(C)]
    expected = sum(count * torch.outer(mean, mean) for mean, count in shifted) / N
    assert torch.allclose(between(z, balanced_labels(y, C)), expected, atol=1e-12)
    assert torch.allclose(scatter(z), torch.cov(z.T, correction=0), atol=1e-12)


def test_bounds_and_monotonicity(data):
    z, y = data
    nested = [value(z[:, : k + 1], y) for k in range(D)]
    ridges = [value(z, y, rho) for rho in (1e-6, 1e-3, 1.0, 1e3, 1e9)]
    assert all(a <= b + 1e-12 for a, b in pairwise(nested)) and all(a > b for a, b in pairwise(ridges))
    assert ridges[-1] < 1e-6 and nested[0] >= 0 and ridges[0] <= C - 1


def test_invariances(data):
    z, y = data
    random = torch.Generator().manual_seed(1)
    mixed = z @ torch.randn(D, D, generator=random, dtype=torch.float64)
    assert value(z + 7.0, y) == pytest.approx(value(z, y), abs=1e-10)
    assert value(mixed, y, 1e-12) == pytest.approx(value(z, y, 1e-12), abs=1e-6)
    assert value(z, torch.tensor([2, 0, 3, 1])[y]) == pytest.approx(value(z, y), abs=1e-10)
    twice = torch.cat((z, z)), torch.cat((y, y))
    assert value(*twice) == pytest.approx(value(z, y), abs=1e-10)  # averaged: the size of a batch does not matter


def test_an_absent_class_changes_nothing(data):
    z, y = data
    wider = information(z, [balanced_labels(y, C + 3)], 0.1)[0]
    assert float(wider) == pytest.approx(value(z, y), abs=1e-12)


def test_batches_are_the_single_ones_and_targets_share_a_factor(data):
    z, y = data
    labels = balanced_labels(y, C)
    together = information(torch.stack((z, z.flip(0))), [labels, labels.flip(0)], 0.1)
    assert together[0].tolist() == pytest.approx([value(z, y), value(z.flip(0), y)], abs=1e-12)
    assert float(together[1][1]) == pytest.approx(value(z, y), abs=1e-12)


def test_gradient_is_finite_differences_and_the_envelopes(data):
    x, y = data
    labels = balanced_labels(y, C)
    random = torch.Generator().manual_seed(2)
    w = torch.randn(D, 2, generator=random, dtype=torch.float64, requires_grad=True)
    own = torch.autograd.grad(information(x @ w, [labels], 0.1)[0], w)[0]
    for i in range(2 * D):
        step = torch.zeros(2 * D, dtype=torch.float64)
        step[i] = 1e-5
        near = [float(information(x @ (w.detach() + sign * step.view(D, 2)), [labels], 0.1)[0]) for sign in (1, -1)]
        assert (near[0] - near[1]) / 2e-5 == pytest.approx(float(own.view(-1)[i]), abs=1e-8)
    rows = (x - x.mean(0)) @ w
    fixed = torch.linalg.solve(rows.T @ rows + 0.1 * N * torch.eye(2, dtype=torch.float64), rows.T @ labels).detach()
    loss = (labels - rows @ fixed).square().sum()
    assert torch.allclose(own, -torch.autograd.grad(loss, w)[0], atol=1e-10)


def test_kernel_information_of_a_linear_kernel_is_the_linear_one(data):
    z, y = data
    labels = balanced_labels(y, C)
    found = kernel_information(hsic.linear_kernel(z), labels, 0.1)
    assert float(found) == pytest.approx(value(z, y), abs=1e-9)
    several = kernel_information(hsic.linear_kernel(z), torch.stack((labels, labels.flip(0))), 0.1)
    assert float(several[0]) == pytest.approx(float(found), abs=1e-12)


def test_random_features_approach_the_gaussian_kernel(data):
    z, y = data
    labels, random = balanced_labels(y, C), torch.Generator().manual_seed(3)
    exact = float(kernel_information(hsic.gaussian_kernel(z, [2.0]), labels, 0.05))

    def error(features, draws=12):
        told = []
        for _ in range(draws):
            frequencies, phases = (part.double() for part in dependence.fourier_draw(D, features, 2.0, random))
            told.append(float(information(dependence.fourier_features(z, frequencies, phases), [labels], 0.05)[0]))
        return numpy.sqrt(numpy.mean((numpy.array(told) - exact) ** 2))

    few, many = error(50), error(1250)
    assert many < 0.02 * exact and many < few / 2.5  # 25 times as many: about a fifth of the error


def test_independent_labels_have_the_expected_bias():
    random = torch.Generator().manual_seed(4)
    z = torch.randn(400, 8, generator=random, dtype=torch.float64)
    told = [
        float(information(z, [balanced_labels(torch.randint(C, (400,), generator=random), C)], 1e-9)[0]) for _ in range(200)
    ]
    assert numpy.mean(told) == pytest.approx((C - 1) * 8 / 400, rel=0.1)


def test_directions_are_scipys_generalised_eigenvectors(data):
    z, y = data
    top, bottom = between(z, balanced_labels(y, C)), scatter(z) + 0.1 * torch.eye(D, dtype=torch.float64)
    found = dependence.directions(top, bottom)
    values, _ = scipy.linalg.eigh(top.numpy(), bottom.numpy())
    assert torch.allclose(found.T @ bottom @ found, torch.eye(D, dtype=torch.float64), atol=1e-9)
    assert (found.T @ top @ found).diagonal().tolist() == pytest.approx(values[::-1].tolist(), abs=1e-9)
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()
    assert torch.equal(dependence.directions(top, bottom, 2), found[:, :2])


def test_kernel_ridge_solves_its_system(data):
    z, y = data
    kernel, labels = hsic.gaussian_kernel(z, [1.0]), balanced_labels(y, C)
    found = dependence.kernel_ridge(kernel, labels, 0.5)
    assert torch.allclose(kernel @ found + 0.5 * found, labels, atol=1e-10)


def test_refusals(data):
    z, y = data
    labels = balanced_labels(y, C)
    for rho in (0.0, -1.0, float("nan")):
        with pytest.raises(StageError, match="rho"):
            information(z, [labels], rho)
    with pytest.raises(StageError, match="not finite"):
        information(z * float("nan"), [labels], 0.1)
    with pytest.raises(StageError, match="one class"):
        balanced_labels(torch.zeros(5, dtype=torch.int64), 2)
    with pytest.raises(StageError, match="singular"):
        dependence.directions(scatter(z), torch.zeros(D, D, dtype=torch.float64))
    with pytest.raises(StageError, match="dims=6"):
        dependence.directions(scatter(z), scatter(z), 6)
