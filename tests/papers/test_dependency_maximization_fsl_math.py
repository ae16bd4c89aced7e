"""The terms of the loss, the classifier, the instance scores and the quotas, against definitions and autograd."""

import dataclasses
import itertools

import numpy
import pytest
import torch

from stages.lib import discriminant, hsic
from stages.lib.errors import StageError
from stages.papers.dependency_maximization_fsl import classifier, instance, objective, selection
from stages.papers.dependency_maximization_fsl.classifier import Labelled, Unlabelled
from stages.papers.dependency_maximization_fsl.settings import Fit

torch.set_num_threads(1)
FIT = Fit(lr=1e-3, steps=5, dm=0.01, mi=1.0, conditional=0.1, sigma_x=0.5, sigma_y=0.5)


@pytest.fixture
def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normal(draws, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=draws)


def predictions(draws, tasks: int = 3, count: int = 12, ways: int = 4) -> torch.Tensor:
    return normal(draws, tasks, count, ways).softmax(2)


# --- dependence -----------------------------------------------------------------------------------


def test_dependence_is_not_negative_and_zero_for_constant_predictions(draws):
    kernel = objective.feature_kernel(normal(draws, 3, 12, 6), 1.0)
    assert bool((objective.dependence(kernel, predictions(draws), 0.5) > 0).all())
    constant = predictions(draws)[:, :1].expand(-1, 12, -1)
    assert objective.dependence(kernel, constant, 0.5).abs().max() < 1e-5


def test_linear_kernels_give_the_norm_of_the_cross_covariance(draws):
    f, p = normal(draws, 3, 12, 6).double(), predictions(draws).double()
    ours = (hsic.centred(hsic.linear_kernel(f)) * hsic.linear_kernel(p)).sum((1, 2))
    cross = (f - f.mean(1, keepdim=True)).transpose(1, 2) @ (p - p.mean(1, keepdim=True))
    assert torch.allclose(ours, cross.square().sum((1, 2)), rtol=1e-12)


def test_dependence_ignores_order_and_shifts_and_is_symmetric(draws):
    f, p = normal(draws, 3, 12, 6).double(), predictions(draws).double()
    first = objective.dependence(objective.feature_kernel(f, 1.0), p, 1.0)
    order = torch.randperm(12, generator=draws)
    again = objective.dependence(objective.feature_kernel(f[:, order] + 3.0, 1.0), p[:, order], 1.0)
    swapped = objective.dependence(objective.feature_kernel(p, 1.0), f, 1.0)
    assert torch.allclose(first, again, rtol=1e-9) and torch.allclose(first, swapped, rtol=1e-9)


def test_centring_one_side_is_centring_both(draws):
    k, p = hsic.gaussian_kernel(normal(draws, 3, 12, 6).double(), [1.0]), predictions(draws).double()
    one = objective.dependence(hsic.centred(k), p, 0.5)
    both = (hsic.centred(k) * hsic.centred(hsic.gaussian_kernel(p, [0.5]))).sum((1, 2))
    assert torch.allclose(one, both, rtol=1e-10)


def test_subtracting_the_officials_constant_changes_nothing(draws):
    """The official code's mean_sub computes x - mean / (std + eps): one vector from every row."""
    f = normal(draws, 3, 12, 6).double()
    moved = f - f.mean(1, keepdim=True) / (f.std(1, keepdim=True) + 1e-12)
    assert torch.allclose(objective.feature_kernel(f, 1.0), objective.feature_kernel(moved, 1.0), atol=1e-12)


def test_median_width_is_that_of_the_non_zero_distances(draws):
    f = normal(draws, 2, 9, 4).double()
    f[:, 1] = f[:, 0]
    for task in range(2):
        pairs = torch.pdist(f[task])
        wanted = pairs[pairs > 1e-6].sort().values
        got = objective.median_width(hsic.squared_distances(f))[task]
        assert torch.isclose(got, wanted[(len(wanted) - 1) // 2], rtol=1e-6)
    with pytest.raises(StageError, match="coincide"):
        objective.median_width(torch.zeros(1, 5, 5))


def test_plain_trace_and_the_normalised_form_differ_by_the_square_of_n_minus_one():
    plain = objective.choose("dm", FIT, 75)
    scaled = objective.choose("dm", dataclasses.replace(FIT, normalise="n2", dm=54.76), 75)
    assert scaled.dm == pytest.approx(plain.dm)


# --- information ----------------------------------------------------------------------------------


def test_information_is_largest_for_balanced_sure_predictions(draws):
    sure = torch.eye(4).repeat(3, 1)[None]
    assert objective.information(sure, 0.1).item() == pytest.approx(numpy.log(4), abs=1e-6)
    assert bool((objective.information(predictions(draws), 0.1) < numpy.log(4)).all())


@pytest.mark.parametrize("name", ["ce", "mi", "dm", "hybrid"])
def test_gradients_are_those_of_automatic_differentiation(draws, name):
    fit = dataclasses.replace(FIT, smoothing=0.1)
    f, u = normal(draws, 2, 10, 6).double(), normal(draws, 2, 15, 6).double()
    labels, share = torch.arange(10).remainder(4).expand(2, -1), torch.rand(2, 10, generator=draws).double()
    loss, kernel = objective.choose(name, fit, 15), objective.feature_kernel(u, 2.0)
    weight = normal(draws, 2, 4, 6).double().requires_grad_()
    bias = normal(draws, 2, 4).double().requires_grad_()
    wanted = objective.targets(labels, 4, fit.smoothing).double()
    soft = (classifier.logits(x, weight, bias).softmax(2) for x in (f, u))
    first, second = soft
    loss.value(first, wanted, share, second, kernel).sum().backward()
    part = (share / share.sum(1, keepdim=True)).unsqueeze(2)
    own = classifier.gradients(f, wanted, part, Unlabelled(u, kernel), weight.data, bias.data, loss)
    assert torch.allclose(own[0], weight.grad, atol=1e-6) and torch.allclose(own[1], bias.grad, atol=1e-6)
    assert name == "ce" or float(weight.grad.abs().max()) > 1e-4


def test_a_small_step_of_the_dependence_alone_raises_it(draws):
    u = normal(draws, 3, 15, 6).double()
    kernel, weight, bias = objective.feature_kernel(u, 2.0), normal(draws, 3, 4, 6).double(), torch.zeros(3, 4).double()
    loss = objective.Loss(dm=1.0, mi=0.0, conditional=0.1, sigma_y=0.5)

    def value() -> torch.Tensor:
        return objective.dependence(kernel, classifier.logits(u, weight, bias).softmax(2), 0.5)

    before = value()
    slope = loss.gradient(classifier.logits(u, weight, bias).softmax(2), kernel)
    weight = weight - 1e-3 * (slope.transpose(1, 2) @ u)
    assert bool((value() > before).all())


# --- classifier -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 1.0, 64.0])
def test_the_initial_classifier_is_the_nearest_prototypes(draws, temperature):
    f, u = normal(draws, 3, 10, 6).double(), normal(draws, 3, 20, 6).double()
    points = Labelled(f, torch.arange(10).remainder(5).expand(3, -1), torch.ones(3, 10).double())
    means = classifier.prototypes(points, 5)
    assert torch.allclose(means[:, 2], (f[:, 2] + f[:, 7]) / 2)
    answers = classifier.logits(u, *classifier.initial(means, temperature))
    assert torch.equal(answers.argmax(2), torch.cdist(u, means).argmin(2))


def test_weight_zero_leaves_a_point_out_of_prototypes_and_loss(draws):
    f, u = normal(draws, 2, 8, 6), normal(draws, 2, 10, 6)
    labels = torch.arange(8).remainder(4).expand(2, -1)
    weights = torch.cat((torch.ones(2, 4), torch.zeros(2, 4)), 1)
    loss = objective.choose("mi", FIT, 10)
    all_of_them = classifier.fit(Labelled(f, labels, weights), Unlabelled(u), 4, 8.0, loss, FIT)
    few = classifier.fit(Labelled(f[:, :4], labels[:, :4], weights[:, :4]), Unlabelled(u), 4, 8.0, loss, FIT)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(all_of_them, few, strict=True))


def test_tasks_side_by_side_are_fitted_as_alone(draws):
    f, u = normal(draws, 3, 5, 6), normal(draws, 3, 10, 6)
    labels, loss = torch.arange(5).expand(3, -1), objective.choose("hybrid", FIT, 10)

    def fitted(part: slice) -> torch.Tensor:
        points = Labelled(f[part], labels[part], torch.ones(3, 5)[part])
        unlabelled = Unlabelled(u[part], objective.feature_kernel(u[part], 0.5))
        return classifier.fit(points, unlabelled, 5, 8.0, loss, FIT)[0]

    together = fitted(slice(None))
    assert all(torch.allclose(together[i], fitted(slice(i, i + 1))[0], atol=1e-6) for i in range(3))


def test_norms_of_features(draws):
    x = normal(draws, 2, 9, 6)
    assert classifier.normed(x, "none", x) is x
    assert torch.allclose(classifier.normed(x, "l2", x).norm(dim=2), torch.ones(2, 9))
    scaled = classifier.normed(x, "zscore", x)
    assert scaled.mean(1).abs().max() < 1e-6 and torch.allclose(scaled.std(1, correction=0), torch.ones(2, 6))


# --- instance scores ------------------------------------------------------------------------------


def without(points: torch.Tensor, labels: torch.Tensor, i: int, ways: int, rho: float) -> torch.Tensor:
    keep = [j for j in range(points.shape[1]) if j != i]
    return instance.separability(points[:, keep], labels[:, keep], ways, rho)


def test_the_closed_form_is_deletion_also_of_a_classs_only_point(draws):
    points = normal(draws, 3, 14, 4).double()
    labels = torch.randint(0, 3, (3, 14), generator=draws)
    labels[:, 5] = 3  # alone in its class; class 4 has no point
    found, whole = instance.scores(points, labels, 5, 1e-3), instance.separability(points, labels, 5, 1e-3)
    for i in range(14):
        assert torch.allclose(found[:, i], (whole - without(points, labels, i, 5, 1e-3)) / 4, atol=1e-8)


def test_bounds_and_monotonicity_of_separability(draws):
    points = normal(draws, 3, 20, 4).double()
    labels = torch.arange(20).remainder(5).expand(3, -1)
    values = [instance.separability(points, labels, 5, rho) for rho in (1e-6, 1e-2, 1.0, 100.0)]
    assert all(bool((a >= b).all()) for a, b in itertools.pairwise(values))
    assert bool((values[0] <= 4).all()) and bool((values[-1] >= 0).all())
    assert bool((instance.separability(points[..., :3], labels, 5, 1e-6) <= values[0] + 1e-9).all())
    mixed = points @ normal(draws, 4, 4).double() + 7.0
    assert torch.allclose(
        instance.separability(mixed, labels, 5, 1e-9), instance.separability(points, labels, 5, 1e-9), atol=1e-5
    )


def test_separability_is_what_a_ridge_classifier_explains(draws):
    points = normal(draws, 1, 20, 4).double()
    labels = torch.arange(20).remainder(5)
    hot = torch.nn.functional.one_hot(labels, 5).double()
    scaled = hot / hot.sum(0).sqrt()
    rows = (points[0] - points[0].mean(0)).unsqueeze(2)
    ours = instance.separability(points, labels[None], 5, 0.1).item()
    assert discriminant.primal(rows, scaled - scaled.mean(0), 0.1) == pytest.approx(ours, rel=1e-10)
    assert discriminant.ridge_gap(rows, scaled - scaled.mean(0), 0.1) == pytest.approx(ours, rel=1e-8)


def test_a_wrong_label_has_the_lowest_and_a_negative_score(draws):
    centres = 10 * torch.eye(3).double()
    labels = torch.arange(30).remainder(3)[None]
    points = centres[labels[0]][None] + 0.3 * normal(draws, 1, 30, 3).double()
    labels[0, 7] = (labels[0, 7] + 1) % 3
    found = instance.scores(points, labels, 3, 1e-3)[0]
    assert int(found.argmin()) == 7 and float(found[7]) < 0


@pytest.mark.parametrize("width", [30, 8])
def test_projection_is_on_the_largest_axes(draws, width):
    features = normal(draws, 2, 12, width)
    got = instance.principal(features, 5)
    centred = features.double() - features.double().mean(1, keepdim=True)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    wanted = u[..., :5] * s[:, None, :5]
    assert torch.allclose(got @ got.transpose(1, 2), wanted @ wanted.transpose(1, 2), atol=1e-8)
    with pytest.raises(StageError, match="at most"):
        instance.principal(features, 12)


# --- selection ------------------------------------------------------------------------------------


def by_hand(chosen: list[bool], scores: list[float], labels: list[int], quota: int, most: int) -> list[bool]:
    """The rule, point by point."""
    chosen = list(chosen)
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if sum(chosen) >= most:
            break
        if not chosen[i] and sum(c and labels[j] == labels[i] for j, c in enumerate(chosen)) < quota:
            chosen[i] = True
    return chosen


def test_selection_is_the_rule_point_by_point(draws):
    for case in range(20):
        scores = torch.randint(0, 6, (4, 15), generator=draws).float()  # with ties
        labels = torch.randint(0, 3, (4, 15), generator=draws)
        chosen = torch.rand(4, 15, generator=draws) < 0.2
        quota = 1 + case % 4
        got = selection.grown(chosen, scores, labels, 3, quota, 3 * quota)
        for row in range(4):
            lists = [x[row].tolist() for x in (chosen, scores, labels)]
            assert got[row].tolist() == by_hand(*lists, quota, 3 * quota)


def test_a_class_beyond_its_quota_gets_no_more_and_keeps_what_it_has():
    labels = torch.zeros(1, 6, dtype=torch.long)
    chosen = torch.tensor([[True, True, True, False, False, False]])
    assert selection.grown(chosen, torch.arange(6.0)[None], labels, 2, 2, 4).tolist() == chosen.tolist()
