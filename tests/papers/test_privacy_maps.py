"""Maps of the privacy paper: eigenproblems, supervised and adversarial training, the minimax filter, export."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from stages.lib import macs
from stages.lib.dependence import balanced_labels, information
from stages.lib.errors import StageError
from stages.lib.hsic import standardised
from stages.papers.privacy_adversarial_features import adversarial, closed, learning, minimax_filter, mixture, supervised
from stages.papers.privacy_adversarial_features.arms import ARMS, FREE, PLAYED, PRICED, SUPERVISED
from stages.papers.privacy_adversarial_features.maps import DeviceMap, Maps, apply, cost
from stages.papers.privacy_adversarial_features.settings import Adversarial, Closed, Compress, Filter, Information, Mixture
from stages.papers.privacy_adversarial_features.tables import Task

torch.set_num_threads(1)
INFORMATION = Information(steps=20, batch=200, lr=1e-2, ridge=1e-2, kernel_ridge=1e-3, fourier=40, width=1.0, samples=100)
GAME = Adversarial(steps=4, inner=2, batch=64, lr=1e-2, predictor_lr=1e-2, hidden=8, adversaries=2, restart=2)
FILTER = Filter(steps=8, inner=20, decay=1e-6, step=0.1)


@pytest.fixture(scope="module")
def task() -> Task:
    """A small draw of the mixture, standardised."""
    settings = Mixture(train=300, evaluation=100, features=12, utilities=3, secrets=4, code=3, leak=0.5)
    x, u, s, train = mixture.draw(settings, 100, "val")
    mean, deviation = x[train].mean(0).double(), x[train].std(0, correction=0).double()
    x = ((x.double() - mean) / deviation).float()
    return Task(x[train], x[~train], mean, deviation, u[train], s[train], u[~train], s[~train], 3, 4, 0)


def secret_information(task: Task, weights: torch.Tensor) -> float:
    z = standardised(task.train.double() @ weights.double())
    return float(information(z, [balanced_labels(task.s, task.secrets)], 1e-6)[0])


# --- eigenproblems --------------------------------------------------------------------------------


def test_ruca_at_price_0_is_dca_and_at_a_huge_one_hides_the_secret_from_linear_attackers(task):
    scatters, settings = closed.Scatters(task), (0.0, 1e-3)
    free, dear = closed.ruca(scatters, 2, settings, [0.0, 1e8])
    alone = closed.dca(scatters, 2, 1e-3)
    assert torch.allclose(functional.normalize(free, dim=0), functional.normalize(alone, dim=0), atol=1e-6)
    assert secret_information(task, dear) < 1e-4 < secret_information(task, free)


def test_discarding_the_secrets_directions_hides_it_from_linear_attackers(task):
    scatters = closed.Scatters(task)
    kept = closed.desensitised(scatters, 2, 1e-8)
    assert secret_information(task, kept) < 1e-6 < secret_information(task, closed.dca(scatters, 2, 1e-8))
    with pytest.raises(StageError, match="leave 9"):
        closed.desensitised(scatters, 10, 1e-3)


def test_pca_and_pls_are_singular_vectors(task):
    scatters, x = closed.Scatters(task), task.train.double()
    rows = x - x.mean(0)
    for found, matrix in ((closed.pca(scatters, 2), rows), (closed.pls(scatters, 2), balanced_labels(task.u, 3).T @ rows)):
        expected = torch.linalg.svd(matrix).Vh[:2].T
        assert (functional.normalize(found, dim=0) * expected).sum(0).abs().tolist() == pytest.approx([1, 1], abs=1e-6)


def test_held_out_samples_choose_the_ridge(task):
    few = dataclasses.replace(
        task, train=torch.cat((task.train, torch.randn(300, 200, generator=torch.Generator().manual_seed(0))), 1)
    )
    assert closed.choose_ridge(few, 2, [1e-6, 1.0]) == 1.0
    assert closed.choose_ridge(few, 2, [1e-6]) == 1e-6


def test_a_further_secret_adds_its_weighted_scatter(task):
    scatters, settings = closed.Scatters(task), (0.0, 1e-3)
    doubled = closed.ruca(scatters, 2, settings, [1.0], [(scatters.secret, 1.0)])[0]
    assert torch.allclose(doubled, closed.ruca(scatters, 2, settings, [2.0])[0], atol=1e-6)


# --- training -------------------------------------------------------------------------------------


def maps_of(task: Task, count: int, net: bool = False) -> Maps:
    return Maps(count, task.train.shape[1], 2, 8 if net else 0, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", list(SUPERVISED))
def test_a_price_is_trained_as_if_it_were_alone_and_hides(task, name):
    arm = SUPERVISED[name]
    both = supervised.train(maps_of(task, 2, arm.net), task, arm, [0.0, 5.0], INFORMATION, 7)
    alone = supervised.train(maps_of(task, 1, arm.net), task, arm, [5.0], INFORMATION, 7)
    for one, other in zip(both.one(1), alone.one(0), strict=True):
        assert torch.allclose(one, other, atol=1e-3)
    z = standardised(both(task.train))
    secret = [balanced_labels(task.s, task.secrets, z.dtype)]
    free, dear = supervised.criteria(z, secret, [arm.secret], INFORMATION, torch.Generator().manual_seed(0))[0].tolist()
    assert dear < free


def test_the_criterion_does_not_see_the_scale_of_what_is_sent(task):
    z = torch.randn(1, 200, 3, generator=torch.Generator().manual_seed(3))
    y = [balanced_labels(task.s[:200], task.secrets, z.dtype)]
    for kind in ("linear", "kernel", "hsic"):
        told = [supervised.criteria(standardised(z * size), y, [kind], INFORMATION, torch.Generator().manual_seed(0))[0]
                for size in (1.0, 1e-3)]  # fmt: skip
        assert float(told[0]) == pytest.approx(float(told[1]), rel=1e-3)


def test_predictors_leave_the_map_alone_and_the_map_the_predictors(task):
    game = adversarial.Game(maps_of(task, 2), task, PLAYED["minimax_linear"], [0.0, 1.0], GAME, INFORMATION, 5)
    before = [parameter.detach().clone() for parameter in game.maps.parameters()]
    game.predictors_step()
    assert all(torch.equal(a, b) for a, b in zip(before, game.maps.parameters(), strict=True))
    heads = [p.detach().clone() for head in (game.predictor, game.adversaries) for p in head.parameters()]
    game.map_step(1e-2)
    after = [p for head in (game.predictor, game.adversaries) for p in head.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(heads, after, strict=True))
    assert not torch.equal(before[0], game.maps.weights[0])


@pytest.mark.parametrize("name", list(PLAYED))
def test_at_price_0_adversaries_do_not_move_the_map(task, name):
    game = adversarial.Game(maps_of(task, 2, True), task, PLAYED[name], [0.0, 1.0], GAME, INFORMATION, 5)
    loss = game.map_loss(task.train, task.u, task.s)
    alone = adversarial.losses(game.predictor(standardised(game.maps(task.train))), task.u)
    weights = game.maps.weights[0]
    full, plain = (torch.autograd.grad(part.sum(), weights, retain_graph=True)[0] for part in (loss, alone))
    assert torch.allclose(full[0], plain[0], atol=1e-7) and not torch.allclose(full[1], plain[1], atol=1e-5)


def test_confusion_is_least_where_predictions_are_uniform():
    logits = torch.randn(2, 3, 40, 5, generator=torch.Generator().manual_seed(0))
    least = torch.log(torch.tensor(5.0))
    assert torch.allclose(adversarial.confusion(torch.zeros(2, 3, 40, 5)), least.expand(2))
    assert (adversarial.confusion(logits) > least).all()


def test_a_restart_draws_one_adversary_anew(task):
    game = adversarial.Game(maps_of(task, 1), task, PLAYED["confusion_linear"], [1.0], GAME, INFORMATION, 5)
    before = game.adversaries.weights[0].detach().clone()
    game.adversaries.restart(1)
    assert torch.equal(game.adversaries.weights[0][:, 0], before[:, 0])
    assert not torch.equal(game.adversaries.weights[0][:, 1], before[:, 1])


def test_minimax_filter_never_raises_its_objective_and_its_gradient_is_the_true_one(task):
    start = torch.randn(1, 12, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    settings = dataclasses.replace(FILTER, inner=300)
    objective = minimax_filter.Objective(task, [0.3], settings)
    first, gradient = objective(start)
    step = torch.zeros_like(start)
    step[0, 3, 1] = 1e-4
    difference = (objective(start + step)[0] - objective(start - step)[0]) / 2e-4
    assert float(difference) == pytest.approx(float(gradient[0, 3, 1]), abs=1e-4)
    reached = minimax_filter.train(task, start, [0.3], FILTER)
    assert float(minimax_filter.Objective(task, [0.3], settings)(reached)[0]) < float(first)


def compress(**changes) -> Compress:
    settings = {"dims": 2, "hidden": 8, "prices": [0.0, 1.0], "price": 1.0, "closed": Closed([1e-2], 0.0),
                "information": dataclasses.replace(INFORMATION, steps=2), "filter": dataclasses.replace(FILTER, steps=2),
                "adversarial": dataclasses.replace(GAME, steps=3)}  # fmt: skip
    return Compress(**{**settings, **changes})


def test_all_arms_are_learned_and_follow_from_the_repetition(task):
    first, again, other = (learning.learn(task, compress(), repetition) for repetition in (100, 100, 101))
    assert {*first, "raw", *FREE} == set(ARMS) and all(len(first[arm]) == 2 for arm in PRICED)
    assert torch.equal(first["kdi_net"][1][0], again["kdi_net"][1][0])
    assert not torch.equal(first["kdi_net"][1][0], other["kdi_net"][1][0])
    with pytest.raises(StageError, match="at most the 12"):
        learning.learn(task, compress(dims=13), 100)


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [False, True])
def test_a_device_runs_the_trained_map_in_one_or_two_products(task, net):
    maps = maps_of(task, 3, net)
    exported = DeviceMap(maps.one(1), task)
    measured = task.train.double() * task.deviation + task.mean  # as a device has them
    assert torch.allclose(exported(measured).float(), maps(task.train)[1], atol=1e-4)
    assert torch.equal(apply(maps.one(1), task.train), apply(maps.one(2), task.train))
    sizes = [12, 8, 2] if net else [12, 2]
    told = cost(sizes)
    assert macs.count(exported, measured) == told["macs"] == (112 if net else 24)
    assert 4 * macs.parameters(exported) == told["map_bytes"] and told["sent_bytes"] == 8
    assert cost([561]) == {"macs": 0, "map_bytes": 0, "sent_bytes": 2244}
