"""Training of supernets: optimiser, recipe, draws of architectures, equal cost, resuming."""

import dataclasses
import random
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.papers.focusformer import recipe, train, training
from stages.papers.focusformer.adamw import AdamW, decay_groups
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


# --- optimiser and recipe -------------------------------------------------------------------------


def test_adamw_is_torchs_with_parameters_left_out_at_times():
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    own = AdamW(decay_groups(nets[0], 0.1))
    groups = [{"params": held, "weight_decay": decay} for held, decay in decay_groups(nets[1], 0.1)]
    other = torch.optim.AdamW(groups, lr=0.01)
    x = torch.randn(8, 4)
    for step in range(6):
        for net in nets:
            (net(x) if step % 2 else net[:2](x)).square().sum().backward()
        own.step(0.01)
        other.step()
        other.zero_grad()
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6) and a.grad is None


def test_only_matrices_decay(params):
    net = fresh_supernet(params, noise(20), 0)
    (matrices, decay), (others, none) = decay_groups(net, 0.05)
    assert decay == 0.05 and none == 0.0 and len(matrices) + len(others) == len(list(net.parameters()))
    kept = {id(parameter) for parameter in others}
    for parameter in (net.stem.token, net.stem.positions, net.blocks[0].keys.vertical, net.norm.weight, net.classifier.bias):
        assert id(parameter) in kept


def test_learning_rate(params):
    settings = dataclasses.replace(params.recipe, epochs=10, warmup=2, lr=1.0, lr_start=0.1, lr_end=0.01)
    rates = [recipe.rate(settings, 5, step) for step in range(50)]
    assert rates[0] == 0.1 and rates[5] == pytest.approx(0.55) and rates[10] == 1.0
    assert rates[30] == pytest.approx((1.0 + 0.01) / 2) and rates[10:] == sorted(rates[10:], reverse=True)


def test_mixed_images(params):
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    numpy.random.seed(0)
    for kind in ("mixup", "cutmix"):
        settings = dataclasses.replace(params.recipe, **{"mixup": 0.0, "cutmix": 0.0, kind: 1.0})
        for _ in range(20):
            found, other, share = recipe.mixed(settings, x)
            assert other.tolist() == [3, 2, 1, 0] and 0.0 <= share <= 1.0
            wanted = share * x[:, 0].mean((1, 2)) + (1 - share) * x[other][:, 0].mean((1, 2))
            assert torch.allclose(found[:, 0].mean((1, 2)), wanted, atol=1e-5)
    assert recipe.mixed(dataclasses.replace(params.recipe, mixup=0.0, cutmix=0.0), x)[1] is None


def test_the_loss_of_mixed_images_weighs_both_labels(params):
    settings = dataclasses.replace(params.recipe, mixup=1.0, smoothing=0.1)
    logits, y = torch.randn(4, 10), torch.arange(4)
    numpy.random.seed(3)
    share = recipe.mixed(settings, torch.zeros(4, 1, 8, 8))[2]
    numpy.random.seed(3)
    found = recipe.loss_of(settings)(lambda _: logits, torch.zeros(4, 1, 8, 8), y)
    one, two = (nn.functional.cross_entropy(logits, labels, label_smoothing=0.1) for labels in (y, y.flip(0)))
    assert torch.allclose(found, share * one + (1 - share) * two)


def test_random_erasing():
    x, generator = torch.zeros(400, 1, 8, 8), torch.Generator().manual_seed(0)
    touched = (recipe.erased(x, 0.25, generator) != 0).flatten(1)
    assert abs(float(touched.any(1).float().mean()) - 0.25) < 0.07 and touched.float().mean(1).max() <= 0.5
    assert recipe.erased(x, 0.0, generator).eq(0).all()


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
