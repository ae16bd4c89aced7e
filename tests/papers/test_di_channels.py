"""The generated channels: what they carry, and which scores find the informative ones."""

import dataclasses
from pathlib import Path

import pytest
import torch

from stages.lib.errors import StageError
from stages.papers.discriminant_information_pruning import channels, information, recall
from stages.papers.discriminant_information_pruning.generator import generate

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """As in the stages; small products are slower with more."""
    torch.set_num_threads(1)


@pytest.fixture
def params(monkeypatch) -> channels.ChannelParams:
    monkeypatch.chdir(ROOT)
    return channels.main.configure(["scale=small", "seed=100"]).params


def test_channels_carry_what_they_say(params):
    problem = generate(params, 1)
    carries = problem.carries
    assert int((carries < 0).sum()) == params.noise
    for source in range(params.informative):
        places = (carries == source).nonzero().flatten()
        assert len(places) == (2 if source < params.copies else 1)
        if len(places) == 2:
            gap = problem.features[:, places[0]] - problem.features[:, places[1]]
            assert float(gap.std()) == pytest.approx(params.copy_noise, rel=0.2)
    loud = problem.features[:, carries < 0].std()
    assert float(loud) == pytest.approx(params.loudness, rel=0.05)
    assert loud > problem.features[:, carries >= 0].std()


def test_the_same_repetition_is_the_same_problem_and_draws_differ(params):
    first, again, other = (generate(params, seed) for seed in (1, 1, 2))
    assert torch.equal(first.features, again.features)
    assert not torch.equal(first.carries, other.carries)


def test_exact_finds_more_than_the_gradient_and_that_more_than_size_or_chance(params):
    """The paper's mechanism, on tuning seeds."""
    many = dataclasses.replace(params, draws=10)
    found = recall.recalls(many, 100)
    assert set(found) == set(recall.ARMS)
    means = {arm: values["channel_recall"] for arm, values in found.items()}
    assert means["di_exact"] >= means["di"] > means["random"] > means["variance"]
    assert means["di"] > means["l1"]
    assert found["di_exact"]["information_kept"] > found["di"]["information_kept"]
    assert found["di_exact"]["ridge_accuracy"] > found["variance"]["ridge_accuracy"] + 0.2


def test_exact_order_keeps_one_of_two_copies(params):
    problem = generate(params, 3)
    found = information.of_maps(problem.features, problem.labels, params.classes, params)
    kept = recall.orders(problem, found, params.classes, 0)["di_exact"][: params.informative]
    carried = problem.carries[kept]
    carried = carried[carried >= 0]
    assert len(carried.unique()) == len(carried)


def test_recall_counts_a_copy_as_its_original(params):
    problem = generate(params, 3)
    found = information.of_maps(problem.features, problem.labels, params.classes, params)
    copies = torch.tensor([int((problem.carries == s).nonzero()[-1]) for s in range(params.informative)])
    values = recall.measured(problem, found, copies, params)
    assert values["channel_recall"] == 1.0
    assert 0 < values["information_kept"] <= 1
    twice = (problem.carries == 0).nonzero().flatten()
    assert recall.measured(problem, found, twice, params)["channel_recall"] == 1 / params.informative


def test_fisher_ratio_is_between_over_within():
    rows = torch.randn(40, 2, 3, dtype=torch.float64)
    rows = rows - rows.mean(0)
    labels = torch.arange(40) % 4
    expected = []
    for c in range(2):
        means = torch.stack([rows[labels == k, c].mean(0) for k in range(4)])
        between = 10 * means.square().sum()
        expected.append(float(between / (rows[:, c].square().sum() - between)))
    assert recall.fisher_ratios(rows, labels, 4).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "change",
    [
        {"informative": 0},
        {"noise": 0},
        {"classes": 1},
        {"copies": 9},
        {"copies": -1},
        {"examples": 3},
        {"rho": 0.0},
        {"draws": 0},
        {"ridge": "none"},
    ],
)
def test_impossible_problems_are_refused(params, change):
    with pytest.raises(StageError):
        recall.recalls(dataclasses.replace(params, **change), 100)
