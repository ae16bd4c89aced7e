"""The architecture sampler: a distribution over the space, its budgets, rewards, REINFORCE and the estimator."""

import dataclasses
import itertools
import random

import pytest
import torch

from stages.lib.adamw import AdamW
from stages.lib.errors import StageError
from stages.papers.focusformer import cost, deployment, front, oracle, reinforce, rewards
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.estimator import Estimator, pairwise_loss
from stages.papers.focusformer.sampler import Sampler
from stages.papers.focusformer.settings import Sampler as Options
from stages.papers.focusformer.settings import Space, Supernet

TINY = Space([8, 16], [1, 2], [1, 2], [1, 2])
CANVAS = cost.Canvas(8, 1, 10, 2, 8, 3)
SPACE = Space([8, 16, 24], [1, 2, 4], [1, 2, 4], [2, 3])
torch.set_num_threads(1)


def sampler(space: Space = TINY, spread: float = 1.0) -> Sampler:
    torch.manual_seed(0)
    made = Sampler(space, cost.budgets(space, CANVAS, [0.4, 0.6, 1.0]), 16)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(10 * spread)
    return made


def options(**changes: object) -> Options:
    made = {"hidden": 16, "lr": 0.01, "entropy": 0.01, "reward": "dominance", "beta": -0.07, "floor": 0.0, "prior": "anchors",
            "warmup": 0.0, "explore": 0.0, "every": 1, "batch": 16, "scored": 0, "images": 1, "draws": 50}  # fmt: skip
    return Options(**{**made, **changes})


# --- the distribution -----------------------------------------------------------------------------


def test_probabilities_of_all_architectures_sum_to_one():
    net, every = sampler(), list(spaces.everything(TINY))
    for budget in net.anchors.tolist():
        chances = net.log_prob(every, torch.full((len(every),), budget)).exp()
        assert float(chances.sum()) == pytest.approx(1.0, abs=1e-5) and chances.max() > 2 * chances.min()


def test_drawn_architectures_have_their_teacher_forced_probability():
    net = sampler()
    budgets = net.anchors.repeat(20)
    codes, log_prob, entropy = net(budgets)
    again = net(budgets, codes)
    assert torch.equal(again[0], codes) and torch.allclose(again[1], log_prob) and torch.allclose(again[2], entropy)
    found = [spaces.decode(TINY, row) for row in codes.tolist()]
    assert torch.allclose(net.log_prob(found, budgets), log_prob)
    assert [spaces.encode(TINY, one) for one in found] == codes.tolist()


def test_draws_follow_the_probabilities():
    net, every, many = sampler(), list(spaces.everything(TINY)), 8000
    budget = float(net.anchors[0])
    found = net.draw(torch.full((many,), budget))
    chances = net.log_prob(every, torch.full((len(every),), budget)).exp().tolist()
    for one, chance in zip(every, chances, strict=True):
        assert abs(found.count(one) / many - chance) < 5 * (chance / many) ** 0.5 + 1e-3


def test_equal_logits_are_autoformers_distribution():
    net, draw = sampler(), random.Random(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    for _ in range(20):
        one = spaces.uniform(TINY, draw)
        chance = 1 / 2 * 1 / 2 * (1 / 4) ** one.depth
        assert float(net.log_prob([one], net.anchors[:1]).exp()) == pytest.approx(chance, rel=1e-5)


def test_the_greedy_decode_takes_the_largest_probabilities():
    net = sampler()
    codes, log_prob, _ = net(net.anchors, greedy=True)
    assert torch.equal(codes, net(net.anchors, greedy=True)[0])
    assert (log_prob >= net(net.anchors)[1] - 1e-6).float().mean() > 0.5


# --- budgets --------------------------------------------------------------------------------------


def test_budget_embeddings_are_the_anchors_own_and_continuous_between():
    net = sampler()
    assert torch.allclose(net.budget_embedding(net.anchors), net.budgets)
    low, middle, high = net.anchors.tolist()
    half = net.budget_embedding(torch.tensor([(low + middle) / 2]))
    assert torch.allclose(half[0], (net.budgets[0] + net.budgets[1]) / 2, atol=1e-6)
    near = net.budget_embedding(torch.tensor([middle - 0.01, middle + 0.01], dtype=torch.float64))
    assert torch.allclose(near[0], near[1], atol=1e-3)
    for outside in (low - 1, high + 1):
        with pytest.raises(StageError, match="between the sampler's anchors"):
            net.budget_embedding(torch.tensor([outside], dtype=torch.float64))


@pytest.mark.parametrize("form", ["anchors", "range"])
def test_the_prior_covers_its_budgets(form):
    net = sampler()
    found = reinforce.prior(net, form, 3 * 50)
    assert found.min() >= net.anchors[0] and found.max() <= net.anchors[-1]
    if form == "anchors":
        assert [int((found == anchor).sum()) for anchor in net.anchors] == [50, 50, 50]
    else:
        assert len(set(found.tolist())) == 150


# --- rewards --------------------------------------------------------------------------------------


def test_dominance_is_a_strict_weak_order():
    torch.manual_seed(0)
    accuracy, macs = torch.randint(0, 4, (12,)) / 4, torch.randint(1, 8, (12,)).float()
    for floor in (0.0, 0.7):
        beats = rewards.dominates(accuracy, macs, 4.0, floor)
        assert not (beats & beats.t()).any() and not beats.diagonal().any()
        for i, j, k in itertools.product(range(12), repeat=3):
            assert not (beats[i, j] and beats[j, k]) or beats[i, k]
            equal = not (beats[i, j] or beats[j, i] or beats[j, k] or beats[k, j])
            assert not equal or not (beats[i, k] or beats[k, i])


def test_the_pareto_rule():
    accuracy, macs = torch.tensor([0.9, 0.2, 0.5, 0.8]), torch.tensor([9.0, 6.0, 3.0, 2.0])
    ranks = rewards.dominance(accuracy, macs, 4.0)
    assert torch.allclose(ranks, torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))
    assert torch.allclose(rewards.dominance(torch.tensor([0.5, 0.5, 0.1]), torch.ones(3), 4.0), torch.tensor([0.75, 0.75, 0.0]))
    with_floor = rewards.dominance(accuracy, macs, 4.0, 0.7)
    assert with_floor.argmax() == 2 and with_floor[3] > with_floor[1]


def test_other_forms():
    accuracy, macs = torch.tensor([0.5, 0.8]), torch.tensor([4.0, 8.0])
    assert rewards.tunas(accuracy, macs, 4.0, -0.07).tolist() == pytest.approx([0.5, 0.73])
    assert rewards.mnas(accuracy, macs, 4.0, -0.07).tolist() == pytest.approx([0.5, 0.8 * 2**-0.07])
    with pytest.raises(StageError, match="not finite"):
        rewards.reward(options(), torch.tensor([0.5, float("nan")]), macs, 4.0)


def test_the_policy_gradient_is_the_exact_one_in_expectation():
    net, every = sampler(spread=0.5), list(spaces.everything(TINY))
    value = {one: cost.macs(one, CANVAS) / 1e5 for one in every}
    budget, weight = net.anchors[:1], 0.1
    chances = net.log_prob(every, budget.expand(len(every))).exp()
    (-(chances * torch.tensor([value[one] for one in every])).sum()).backward()
    exact = [p.grad.clone() for p in net.decide["depth"].parameters()]
    for parameter in net.parameters():
        parameter.grad = None
    groups, size = 1500, 8
    codes, log_prob, entropy = net(budget.expand(groups * size))
    told = torch.tensor([value[spaces.decode(TINY, row)] for row in codes.tolist()]).view(groups, size)
    rows = zip(log_prob.view(groups, size), told, entropy.view(groups, size), strict=True)
    torch.stack([rewards.policy_loss(a, b, c, 0.0) for a, b, c in rows]).mean().backward()
    for own, wanted in zip(net.decide["depth"].parameters(), exact, strict=True):
        assert torch.allclose(own.grad, wanted, atol=0.1 * float(wanted.abs().max()))
    plain, bonus = (rewards.policy_loss(torch.zeros(2), torch.zeros(2), torch.ones(2), w) for w in (0.0, weight))
    assert float(plain - bonus) == pytest.approx(weight)


# --- the estimator --------------------------------------------------------------------------------


def test_the_pairwise_loss():
    scores, accuracies = torch.tensor([[1.0, 0.0, 5.0]]), torch.tensor([[0.5, 0.2, 0.5]])
    wanted = (torch.nn.functional.softplus(torch.tensor(-1.0)) + torch.nn.functional.softplus(torch.tensor(-5.0))) / 2
    assert float(pairwise_loss(scores, accuracies)) == pytest.approx(float(wanted))
    assert float(pairwise_loss(scores, torch.ones(1, 3))) == 0.0


def test_the_estimator_learns_an_order_from_few_measurements():
    torch.manual_seed(0)
    estimator, draw = Estimator(SPACE, 32, 4), random.Random(0)
    found = [spaces.uniform(SPACE, draw) for _ in range(400)]
    codes = torch.tensor([spaces.encode(SPACE, one) for one in found])
    truth = torch.tensor([cost.macs(one, CANVAS) / 1e6 for one in found])
    for i in range(75):
        estimator.learn(codes[4 * i : 4 * i + 4], truth[4 * i : 4 * i + 4])
    with torch.no_grad():
        scores = estimator(codes[300:])
    pairs = torch.triu_indices(100, 100, 1)
    agree = ((scores[pairs[0]] - scores[pairs[1]]) * (truth[300:][pairs[0]] - truth[300:][pairs[1]]) > 0).float().mean()
    assert agree > 0.85


# --- learning and deployment ----------------------------------------------------------------------


def oracle_params(updates: int) -> oracle.OracleParams:
    shape = Supernet(24, 4, 4, 3, 8, 2, 3, "interleaved", 0.1, 0.0)
    return oracle.OracleParams(SPACE, shape, [0.15, 0.3, 0.6], options(hidden=64, entropy=0.02), updates)


def test_a_short_training_beats_the_untrained_sampler():
    trained, untrained = (oracle.regrets(oracle_params(60), "dominance", 100, updates) for updates in (60, 0))
    assert trained["regret"] < untrained["regret"] and trained["within_budget"] >= untrained["within_budget"]


@pytest.mark.slow
def test_decodes_come_near_the_enumerated_optimum():
    """Within 5 % for every anchor (spec), from one of three starts: REINFORCE ends in local optima, and which start does so
    differs between makers of CPUs."""
    params = dataclasses.replace(oracle_params(2000), sampler=options(hidden=64, entropy=0.1))
    found: list[dict[str, float]] = []
    for seed in (100, 101, 102):
        found.append(oracle.regrets(params, "dominance", seed, 2000))
        assert found[-1]["within_budget"] == 1.0
        if found[-1]["regret_worst"] < 0.05:
            break
    assert found[-1]["regret_worst"] < 0.05
    assert sum(one["regret"] for one in found) / len(found) < 0.1


def test_deployment_falls_back_on_samples_then_on_lower_anchors_then_on_nothing():
    net = sampler()
    greedy = net.draw(net.anchors[-1:], greedy=True)[0]
    assert deployment.deploy(net, CANVAS, float(net.anchors[-1]), 10) == greedy
    torch.manual_seed(1)
    tight = max(cost.macs(spaces.smallest(TINY), CANVAS), int(net.anchors[0]))
    for _ in range(5):
        found = deployment.deploy(net, CANVAS, float(tight), 30)
        assert found is None or cost.macs(found, CANVAS) <= tight
    with torch.no_grad():  # always the largest architecture
        net.decide["depth"].bias += torch.tensor([-50.0, 50.0])
        net.decide["embed"].bias += torch.tensor([-50.0, 50.0])
    assert deployment.deploy(net, CANVAS, float(net.anchors[0]), 5) is None


def test_an_update_moves_the_sampler_and_leaves_no_gradient():
    net = sampler()
    policy = AdamW([(list(net.parameters()), 0.0)])
    before = [parameter.detach().clone() for parameter in net.parameters()]
    reinforce.update(net, policy, options(), CANVAS, lambda found, _: torch.rand(len(found)))
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_hypervolume():
    assert front.hypervolume([(50.0, 0.5)], 100.0) == pytest.approx(0.25)
    assert front.hypervolume([(75.0, 0.8), (50.0, 0.5)], 100.0) == pytest.approx(0.25 * 0.5 + 0.25 * 0.8)
    assert front.hypervolume([(50.0, 0.5), (75.0, 0.4)], 100.0) == pytest.approx(0.25)
