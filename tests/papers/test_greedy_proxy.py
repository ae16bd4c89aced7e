"""The evaluator of the search and the recipe of trainings: remembered scores, divided data, rates, averaged weights."""

import dataclasses
from pathlib import Path

import pytest
import torch

from stages.lib import data, runtime
from stages.lib.errors import StageError
from stages.papers.greedy_network_enlarging import evaluate, proxy, recipe
from stages.papers.greedy_network_enlarging.allocation import Allocation
from stages.papers.greedy_network_enlarging.settings import Base, Recipe
from stages.papers.greedy_network_enlarging.space import space_of
from tests.papers.prepared import digits

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(2, 0.1, 0.5, 0.0, 0.0, 0.9, True, 5e-4, 50, 0.1, 0.0, 0, False, 0)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and digits prepared, which is also the current folder."""
    monkeypatch.chdir(digits(tmp_path))
    return tmp_path


def evaluator(**more) -> proxy.Evaluator:
    settings = evaluate.main.configure(["scale=smoke", "dataset=digits", "seed=0", "step=1", "dimension=depth"]).proxy
    split = data.load("digits", "train")
    space = space_of(Base("plain", [1, 1], [4, 6], 8, {}), 1, 10)
    return proxy.Evaluator(space, split, dataclasses.replace(settings, **more), 5, runtime.prepare(1, "cpu", 0))


def test_a_remembered_score_is_that_of_a_fresh_evaluation(workspace):
    small, large = Allocation((1, 1), (4, 6), 8), Allocation((1, 2), (4, 8), 9)
    one, other = evaluator(), evaluator()
    first = one.accuracies(small)
    assert len(first) == 2 and one(small) == sum(first) / 2
    other(large)
    assert other.accuracies(small) == first and one.accuracies(small) is first
    assert one.spent(small) == one.space.macs(small) * 2 * len(one.train)


def test_search_data_is_training_data_in_two_parts(workspace):
    split = data.load("digits", "train")
    settings = evaluator().proxy
    whole = dataclasses.replace(settings, recipe=dataclasses.replace(settings.recipe, limit=0))
    train_part, val_part = proxy.halves(split, whole, 0)
    pool = {tuple(x.flatten().tolist()) for x in split.x}
    parts = [{tuple(x.flatten().tolist()) for x in part.x} for part in (train_part, val_part)]
    assert parts[0] | parts[1] == pool and not parts[0] & parts[1] and len(val_part) == 90
    assert not torch.equal(proxy.halves(split, whole, 1)[1].x, val_part.x)
    few, _ = proxy.halves(split, dataclasses.replace(whole, classes=4), 0)
    assert len(few.classes) == 4 and sorted(few.y.unique().tolist()) == [0, 1, 2, 3]
    chosen = proxy.subset(split, 4, 1)
    assert all(torch.equal(chosen.x[chosen.y == i], split.x[split.y == int(name)]) for i, name in enumerate(chosen.classes))
    for wrong in ({"classes": 1}, {"classes": 11}, {"held_out": 0.01}):
        with pytest.raises(StageError):
            proxy.halves(split, dataclasses.replace(whole, **wrong), 0)


def test_rates_warm_up_and_fall_as_in_the_release():
    settings = dataclasses.replace(RECIPE, epochs=450, lr=0.6, warmup=20.0, warmup_lr=1e-4, final_lr=1e-6)
    rates = [recipe.rate(settings, 10, step) for step in range(4500)]
    assert rates[0] == 1e-4 and rates[100] == pytest.approx((1e-4 + 0.6) / 2) and rates[200] == pytest.approx(0.6)
    assert rates[-1] < 2e-6 and rates[2350] == pytest.approx(0.3, rel=1e-3)
    assert sorted(rates[:201]) == rates[:201] and sorted(rates[200:], reverse=True) == rates[200:]


def test_the_average_of_the_weights_follows_its_decay(workspace):
    split, device = data.load("digits", "train"), runtime.prepare(1, "cpu", 0)
    space = space_of(Base("plain", [1], [4], 8, {}), 1, 10)
    start = space.build(space.base)
    one = dataclasses.replace(RECIPE, epochs=1, warmup=0.0, batch=300, ema=0.75)
    made = {}
    for ema in (0.0, 0.75):
        net = space.build(space.base)
        net.load_state_dict(start.state_dict())
        made[ema] = recipe.fit(net, split, dataclasses.replace(one, ema=ema), 0, device, None, "one step")
    weight = {ema: net.blocks[0][0][0].weight for ema, net in made.items()}
    expected = 0.75 * start.blocks[0][0][0].weight + 0.25 * weight[0.0]
    assert torch.allclose(weight[0.75], expected, atol=1e-6) and not torch.equal(weight[0.75], weight[0.0])


torch.set_num_threads(1)
