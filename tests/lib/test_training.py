"""Training: right updates, the same bytes after any interruption, refusal of what cannot be trained."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.lib import training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.optim import Sgd, schedule

ROOT = Path(__file__).parents[2]
STEPS = (1, 4, 6, 8, 11)  # of 12: first, ends of epochs, middle, last but one


def toy_split(count: int = 40, seed: int = 0) -> Split:
    """Two classes that a linear map can tell apart."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 2
    x = torch.randn(count, 1, 3, 3, generator=draw) + (4.0 * y - 2).view(-1, 1, 1, 1)
    return Split(x, y, ("a", "b"), (0.0,), (1.0,), "sample", "train")


def toy_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 2))


SETTINGS = {"epochs": 3, "lr": 0.1, "batch": 7, "seed": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
        {"momentum": 0.9, "weight_decay": 0.0, "nesterov": False},
        {"momentum": 0.0, "weight_decay": 1e-2, "nesterov": False},
    ],
)
def test_sgd_has_the_bits_of_torchs(settings):
    ours = nn.Sequential(nn.Linear(9, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    theirs = copy.deepcopy(ours)
    one, other = Sgd(ours.parameters(), 0.1, **settings), torch.optim.SGD(theirs.parameters(), 0.1, **settings)
    for step in range(20):
        x = torch.randn(16, 9)
        for optimiser, net in ((one, ours), (other, theirs)):
            optimiser.zero_grad()
            net(x).square().mean().backward()
        one.lr = other.param_groups[0]["lr"] = 0.1 / (1 + step)
        one.step()
        other.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_sgd_leaves_parameters_without_gradient_alone():
    used, unused, frozen = (nn.Parameter(torch.ones(3)) for _ in range(3))
    frozen.requires_grad_(False)
    optimiser = Sgd([used, unused, frozen], 0.1, weight_decay=0.1)
    (used.sum() + frozen.sum()).backward()
    optimiser.step()
    assert not torch.equal(used, torch.ones(3))
    assert torch.equal(unused, torch.ones(3))
    assert torch.equal(frozen, torch.ones(3))


def test_schedules():
    cosine = schedule("cosine", 0.4, 100)
    assert cosine(0) == 0.4
    assert math.isclose(cosine(50), 0.2)
    assert 0 < cosine(99) < 0.001
    assert all(cosine(s) > cosine(s + 1) for s in range(99))
    step = schedule("step", 1.0, 10, (0.4, 0.6))
    assert [round(step(s), 6) for s in (0, 3, 4, 5, 6, 9)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert schedule("constant", 0.3, 10)(9) == 0.3
    with pytest.raises(StageError, match="linear"):
        schedule("linear", 0.1, 10)


def test_training_learns_and_repeats_and_depends_on_the_seed():
    results = []
    for seed in (1, 1, 2):
        net = toy_net()
        history = training.train(net, toy_split(), **(SETTINGS | {"seed": seed}))
        assert history[-1] < history[0]
        assert training.evaluate(net, toy_split(seed=9)) > 0.95
        results.append(net[1].weight.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_every_example_is_seen_once_an_epoch():
    seen: list[torch.Tensor] = []

    def loss(model, x, y):
        seen.append(x[:, 0, 0, 0])
        return training.cross_entropy(model, x, y)

    split = toy_split()
    training.train(toy_net(), split, loss=loss, **SETTINGS)
    assert [len(part) for part in seen[:6]] == [7, 7, 7, 7, 7, 5]
    first, second = torch.cat(seen[:6]), torch.cat(seen[6:12])
    assert torch.equal(first.sort().values, split.x[:, 0, 0, 0].sort().values)
    assert torch.equal(second.sort().values, first.sort().values)
    assert not torch.equal(first, second)


def test_masks_hold_and_chosen_parameters_alone_move():
    net = toy_net()
    bias = net[1].bias.detach().clone()

    def mask(model):
        with torch.no_grad():
            model[1].weight[:, :4] = 0

    training.train(net, toy_split(), mask_hook=mask, parameters=[net[1].weight], **SETTINGS)
    assert torch.equal(net[1].weight[:, :4], torch.zeros(2, 4))
    assert net[1].weight[:, 4:].abs().sum() > 0
    assert torch.equal(net[1].bias, bias)


def test_no_epochs_change_nothing():
    net = toy_net()
    before = copy.deepcopy(net.state_dict())
    assert training.train(net, toy_split(), **(SETTINGS | {"epochs": 0})) == []
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_nan_is_refused_in_training_and_evaluation():
    split = toy_split()
    split.x[3] = float("nan")
    net = toy_net()
    with pytest.raises(StageError, match="finite"):
        training.train(net, split, **SETTINGS)
    with pytest.raises(StageError, match="NaN"):
        training.evaluate(net, toy_split())


@pytest.mark.parametrize("change", [{"epochs": -1}, {"batch": 0}, {"lr": float("nan")}, {"lr": -1.0}, {"schedule": "x"}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(StageError):
        training.train(toy_net(), toy_split(), **(SETTINGS | change))


def test_evaluation_counts_and_keeps_the_mode():
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 2), nn.BatchNorm1d(2)).train()
    split = toy_split(41)
    stats = net[2].running_mean.clone()
    accuracy = training.evaluate(net, split, batch=10)
    assert net.training
    assert torch.equal(net[2].running_mean, stats)
    right = (net.eval()(split.x).argmax(1) == split.y).sum().item()
    assert accuracy == right / 41


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Every run of resume_runs.py, by (signal, step)."""
    folder = tmp_path_factory.mktemp("states")
    words = [sys.executable, "-m", "tests.lib.resume_runs", str(folder), "0", *map(str, STEPS)]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line[4:]) for line in run.stdout.splitlines() if line.startswith("RUN ")]
    return {(line[0] if line[1] else "none", line[1]): line[2:] for line in lines}


@pytest.mark.parametrize("step", STEPS)
def test_sigterm_saves_and_the_next_run_ends_in_the_same_bytes(interrupted, step):
    status, text, kept, end, final = interrupted["SIGTERM", step]
    assert status == 143
    assert "SIGTERM" in text
    assert kept
    assert (end, final) == (0, interrupted["none", 0][1])


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_at_any_step_and_the_next_run_ends_in_the_same_bytes(interrupted, step):
    status, _, kept, end, final = interrupted["SIGKILL", step]
    assert status == -9
    assert kept == (step > 4), "the state of the last finished epoch is there"
    assert (end, final) == (0, interrupted["none", 0][1])


class Stop(Exception):
    """Stands for a crash."""


def broken_off(state: Path, net: nn.Module, split: Split, **changes) -> list[int]:
    """Start a training that crashes in epoch 3 if it gets there; return the steps that it ran."""
    steps: list[int] = []

    def crash(_):
        steps.append(1)
        if len(steps) == 14:
            raise Stop

    with contextlib.suppress(Stop):
        training.train(net, split, mask_hook=crash, state=state, **(SETTINGS | {"epochs": 4} | changes))
    return steps


@pytest.mark.parametrize("change", ["nothing", "lr", "seed", "data", "weights", "file", "code"])
def test_a_state_is_only_taken_up_by_the_same_run(tmp_path, monkeypatch, change):
    monkeypatch.setattr(training, "SAVE_SHARE", float("inf"))
    state = tmp_path / "state"
    assert len(broken_off(state, toy_net(), toy_split())) == 14
    net, split, changes = toy_net(), toy_split(), {}
    if change == "weights":
        net[1].weight.data[0, 0] += 1
    elif change == "data":
        split.x[3, 0, 0, 0] += 1
    elif change == "file":
        state.write_bytes(state.read_bytes()[:-7])
    elif change == "code":
        monkeypatch.setattr("stages.lib.resume._code", lambda: b"edited")
    elif change != "nothing":
        changes = {change: 0.05 if change == "lr" else 2}
    steps = broken_off(state, net, split, **changes)
    assert len(steps) == (12 if change == "nothing" else 14)  # 2 epochs of 6 steps are left, or all 4 begin again


def test_states_need_no_trust(tmp_path, monkeypatch):
    """No pickle opcode stream: the file is safetensors, header first."""
    monkeypatch.setattr(training, "SAVE_SHARE", float("inf"))
    broken_off(tmp_path / "state", toy_net(), toy_split())
    raw = (tmp_path / "state").read_bytes()
    assert json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])


def test_training_imports_no_compiler():
    """torch.optim's first step and use_deterministic_algorithms import torch._dynamo: 1.6 s a stage."""
    code = "from tests.lib.resume_runs import attempt; from pathlib import Path; attempt(Path('x'), 0, 9)"
    code += "; import sys; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
