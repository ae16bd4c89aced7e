"""Training of supernets: optimiser, recipe, draws of architectures, equal cost, resuming."""

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from stages.lib.adamw import decay_groups
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.papers.focusformer import train, training
from stages.papers.focusformer.settings import Params
from stages.papers.focusformer.training import fresh_supernet, train_supernet

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
torch.set_num_threads(1)


def noise(count: int) -> Split:
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Split(x, torch.arange(count) % 10, tuple("0123456789"), (0.5,), (0.2,), "sample", "train")


@pytest.fixture
def params(monkeypatch) -> Params:
    monkeypatch.chdir(ROOT)
    return train.main.configure(["scale=smoke", "dataset=digits", "supernet=focus", "seed=100"]).params


# --- optimiser ------------------------------------------------------------------------------------


def test_only_matrices_decay(params):
    net = fresh_supernet(params, noise(20), 0)
    (matrices, decay), (others, none) = decay_groups(net, 0.05)
    assert decay == 0.05 and none == 0.0 and len(matrices) + len(others) == len(list(net.parameters()))
    kept = {id(parameter) for parameter in others}
    for parameter in (net.stem.token, net.stem.positions, net.blocks[0].keys.vertical, net.norm.weight, net.classifier.bias):
        assert id(parameter) in kept


# --- draws ----------------------------------------------------------------------------------------


def test_arms_share_weights_data_and_the_uniform_start(params):
    split, held_out = noise(200), noise(60)
    params = dataclasses.replace(params, sampler=dataclasses.replace(params.sampler, warmup=1.0))
    one, two = (train_supernet(params, split, held_out, focused, 100, CPU, None, "x") for focused in (False, True))
    assert torch.equal(one.costs, two.costs)
    assert all(torch.equal(a, b) for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True))


def test_the_sampler_takes_over_after_the_warm_up(params):
    split, held_out = noise(400), noise(60)
    sampling = dataclasses.replace(params.sampler, warmup=0.5, explore=0.0)
    params = dataclasses.replace(params, sampler=sampling)
    one, two = (train_supernet(params, split, held_out, focused, 100, CPU, None, "x") for focused in (False, True))
    half = len(one.costs) // 2
    assert torch.equal(one.costs[:half], two.costs[:half]) and not torch.equal(one.costs[half:], two.costs[half:])
    assert (two.costs > 0).all()
    updates = int(two.policy.counts.max())
    assert updates == training.sampler_updates(params, 4) == int(two.estimator.filled) == half // params.sampler.every


def test_official_reseeding_repeats_the_architectures_of_a_pass(params):
    params = dataclasses.replace(params, recipe=dataclasses.replace(params.recipe, reseed=True))
    runs = [train_supernet(params, noise(200), noise(60), False, seed, CPU, None, "x").costs for seed in (100, 101)]
    assert torch.equal(runs[0], runs[1])
    free = dataclasses.replace(params, recipe=dataclasses.replace(params.recipe, reseed=False))
    assert not torch.equal(train_supernet(free, noise(200), noise(60), False, 100, CPU, None, "x").costs, runs[0])


def test_extra_passes_pay_for_the_sampler(params):
    steps = 10
    more = training.extended(params, steps)
    images = training.sampler_updates(params, steps) * params.sampler.scored * params.sampler.images
    paid = (more.recipe.epochs - params.recipe.epochs) * steps * params.recipe.batch * 3
    assert images <= paid < images + steps * params.recipe.batch * 3
    every = dataclasses.replace(params, sampler=dataclasses.replace(params.sampler, scored=0))
    assert training.update_images(every) == every.sampler.batch * 4 * every.sampler.images


def test_the_sampler_leaves_the_weights_alone(params):
    trainee = training.SupernetTrainee(
        fresh_supernet(params, noise(50), 0), training.Sampler(params.space, [1e5, 2e5, 3e5, 4e5], 8), noise(60), params, 1
    )
    trainee.update_sampler()
    assert all(parameter.grad is None for parameter in trainee.net.parameters())


def test_data_that_are_not_finite(params):
    spoiled = noise(100)
    spoiled.x[3] = float("nan")
    with pytest.raises(StageError, match="not finite"):
        train_supernet(params, spoiled, noise(60), False, 100, CPU, None, "x")


def test_a_diverged_supernet_is_told(params):
    net = fresh_supernet(params, noise(50), 0)
    with torch.no_grad():
        net.classifier.bias.fill_(float("nan"))
    sampler = training.Sampler(params.space, [1e5, 2e5, 3e5, 4e5], 8)
    every = dataclasses.replace(params, sampler=dataclasses.replace(params.sampler, scored=0))
    with pytest.raises(StageError, match="not finite"):
        training.SupernetTrainee(net, sampler, noise(60), every, 1).update_sampler()


def test_a_stopped_training_goes_on_to_the_same_weights(params, tmp_path, monkeypatch):
    split, held_out = noise(300), noise(60)
    params = dataclasses.replace(params, recipe=dataclasses.replace(params.recipe, epochs=6))
    whole = train_supernet(params, split, held_out, True, 100, CPU, None, "x")
    step, left = training.SupernetTrainee.after_step, [10]

    def stopping(self) -> None:
        step(self)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr("stages.lib.training.SAVE_SHARE", 1e9)
    monkeypatch.setattr(training.SupernetTrainee, "after_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_supernet(params, split, held_out, True, 100, CPU, tmp_path / "x.state", "x")
    monkeypatch.setattr(training.SupernetTrainee, "after_step", step)
    random.seed(999)
    torch.manual_seed(999)
    again = train_supernet(params, split, held_out, True, 100, CPU, tmp_path / "x.state", "x")
    assert torch.equal(again.costs, whole.costs)
    for a, b in zip(again.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(a, b)
