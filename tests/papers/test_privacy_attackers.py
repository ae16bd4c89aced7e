"""Attackers beside scikit-learn's, what constant and identical maps give, and the measures built on them."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from stages.lib.errors import StageError
from stages.papers.privacy_adversarial_features import attackers, frontier, logistic, measures
from stages.papers.privacy_adversarial_features.settings import Attack

torch.set_num_threads(1)
ATTACK = Attack(steps=200, decay=1e-4, widths=[1.0], ridges=[0.5], neighbours=15, hidden=32, epochs=40, batch=64, lr=1e-2,
                weight_decay=1e-3)  # fmt: skip


@pytest.fixture(scope="module")
def rings():
    """Three classes on a line, two on rings about the origin: the second is invisible to a linear attacker."""
    random = torch.Generator().manual_seed(0)
    y, ring = torch.randint(3, (600,), generator=random), torch.randint(2, (600,), generator=random)
    angle = 6.2832 * torch.rand(600, generator=random)
    flat = (1.0 + 1.5 * ring)[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
    x = torch.cat((flat, 2.0 * y[:, None] + 0.5 * torch.randn(600, 1, generator=random)), 1).double()
    return x[:400], y[:400], ring[:400], x[400:], y[400:], ring[400:]


def test_logistic_regression_reaches_its_optimum_below_scikit_learns(rings):
    x, y = rings[0] - rings[0].mean(0), rings[1]
    found = logistic.fit(x, y, 3, 2000, 0.05).requires_grad_()

    def objective(weights):
        return logistic.loss(x, y, weights) + 0.05 * weights.square().sum() / 2

    assert float(torch.autograd.grad(objective(found), found)[0].abs().max()) < 1e-8
    oracle = LogisticRegression(C=1 / (0.05 * len(y)), max_iter=1000).fit(x.numpy(), y.numpy())  # its offset has no penalty
    theirs = torch.cat((torch.from_numpy(oracle.coef_.T), torch.from_numpy(oracle.intercept_)[None]))
    assert float(objective(found.detach())) <= float(objective(theirs))
    agree = (logistic.with_offset(x) @ found).argmax(1).numpy() == oracle.predict(x.numpy())
    assert agree.mean() > 0.95
    assert torch.allclose(found, logistic.fit(x.repeat(2, 1, 1), y, 3, 2000, 0.05)[1])


def test_families_are_as_accurate_as_scikit_learns(rings):
    x, y, ring, x_eval, _, ring_eval = rings
    told = attackers.predictions(x[None], x_eval[None], [(y, 3), (ring, 2)], ATTACK, 0)[1]
    assert set(told) == set(attackers.FAMILIES)
    own = {name: float(value) for name, value in frontier.accuracies(told, ring_eval).items()}
    scaled, scaled_eval = attackers.scaled(x, x_eval)
    for name, oracle in (("rbf", SVC()), ("neighbours", KNeighborsClassifier(15)), ("linear", LogisticRegression())):
        theirs = oracle.fit(scaled.numpy(), ring.numpy()).score(scaled_eval.numpy(), ring_eval.numpy())
        assert own[name] == pytest.approx(theirs, abs=0.05)
    assert own["linear"] < 0.65 and min(own["rbf"], own["mlp"]) > 0.95


def test_several_widths_are_chosen_by_held_out_training_samples(rings):
    x, _, ring, x_eval, _, ring_eval = rings
    some = Attack(**{**vars(ATTACK), "widths": [100.0, 1.0], "ridges": [0.5]})
    poor = Attack(**{**vars(ATTACK), "widths": [100.0]})
    reached = [float((attackers.by_distance(*attackers.scaled(x[None], x_eval[None]), [(ring, 2)], one)["rbf"][0] == ring_eval)
                     .double().mean()) for one in (some, poor)]  # fmt: skip
    assert reached[0] > 0.95 > reached[1]


def test_a_constant_map_gives_chance_and_the_identity_what_raw_features_give(rings):
    x, y, _, x_eval, y_eval, _ = rings
    both = torch.stack((torch.ones_like(x), x)), torch.stack((torch.ones_like(x_eval), x_eval))
    told = frontier.accuracies(attackers.predictions(*both, [(y, 3)], ATTACK, 0)[0], y_eval)
    raw = frontier.accuracies(attackers.predictions(x[None], x_eval[None], [(y, 3)], ATTACK, 0)[0], y_eval)
    most = max(float((y_eval == c).double().mean()) for c in range(3))
    for family in attackers.FAMILIES:
        assert float(told[family][0]) <= most
        assert float(told[family][1]) == pytest.approx(float(raw[family][0]), abs=0.02)


def test_scale_does_not_hide_anything(rings):
    x, _, ring, x_eval, _, _ = rings
    one, other = (attackers.predictions(size * x[None], size * x_eval[None], [(ring, 2)], ATTACK, 0)[0] for size in (1.0, 1e-4))
    assert all((one[name] == other[name]).double().mean() > 0.98 for name in one)


def test_measures_are_normalised_by_chance_and_raw_features():
    assert frontier.normalised(0.5, 0.5, 0.9) == 0 and frontier.normalised(0.9, 0.5, 0.9) == pytest.approx(1)
    with pytest.raises(StageError, match="no better than"):
        frontier.normalised(0.5, 0.5, 0.5)
    assert frontier.area([(1.0, 0.0)]) == 1 and frontier.area([(1.0, 1.0)]) == 0
    assert frontier.area([(1.0, 0.5), (0.5, 0.0)]) == pytest.approx(0.75)
    assert frontier.area([(1.0, 0.5), (0.5, 0.0), (0.4, 0.6)]) == pytest.approx(0.75)  # a dominated point adds nothing
    assert frontier.area([(1.2, -0.1)]) == 1
    told, y = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]]), torch.tensor([0, 0, 0, 1])
    assert frontier.balanced(told, y).tolist() == [1.0, 0.5]
    assert measures.majority(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0, 0])) == 0.25


def test_information_beyond_permuted_labels_is_small_for_independent_ones():
    random = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    z = torch.randn(300, 3, generator=random)
    alone, told = (
        measures.excess_information(one, y, 3, torch.Generator().manual_seed(1)) for one in (z, z + 2.0 * y[:, None])
    )
    assert abs(alone) < 0.1 < 0.5 < told < 2
