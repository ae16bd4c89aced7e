"""The paper's own settings: they compose, agree with the paper, and run for a few steps on a small stand-in net."""

from pathlib import Path

import pytest
import torch

from stages.lib import runtime
from stages.papers.dcp import finetune, prune, shakedown, train
from stages.papers.dcp.train import Net

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)
    return shakedown.main.configure(["threads=1", "device=cpu"])


@pytest.mark.parametrize("dataset", ["cifar10", "imagenet"])
def test_paper_scale_composes_for_every_stage(monkeypatch, dataset):
    monkeypatch.chdir(ROOT)
    keys = ["scale=paper", f"dataset={dataset}", "seed=0"]
    assert train.main.configure(keys).params.limit == 0
    assert prune.main.configure([*keys, "arm=dcp"]).params.lam == 1.0
    assert finetune.main.configure([*keys, "arm=dcp"]).params.weight_decay == 1e-4


def test_milestones_are_the_papers_epochs(config):
    epochs = {
        name: [round(share * setting.finetune.epochs) for share in setting.finetune.milestones]
        for name, setting in {"cifar10": config.cifar10, "imagenet": config.imagenet}.items()
    }
    assert epochs == {"cifar10": [160, 240], "imagenet": [36, 48, 54]}


def test_scratch_has_the_epochs_of_all_other_arms(config):
    for setting in (config.cifar10, config.imagenet):
        together = setting.train.epochs + setting.train.aux.epochs + setting.finetune.epochs
        assert setting.finetune.scratch.epochs == together


def test_reduction_changes_amounts_only(config):
    trial = config.params.trials["preresnet56"]
    small = shakedown.reduced(config.cifar10, trial, config.params)
    assert small.train.aux.losses == trial.losses
    assert (small.train.epochs, small.train.batch) == (1, config.params.batch)
    for key in ("lr", "weight_decay", "pad", "flip", "milestones"):
        assert getattr(small.train, key) == getattr(config.cifar10.train, key)
    for key in ("lam", "rebuild", "lr", "form", "score", "ratio"):
        assert getattr(small.prune, key) == getattr(config.cifar10.prune, key)


def test_settling_moves_statistics_to_the_batch_and_nothing_else():
    norm = torch.nn.BatchNorm2d(3)
    x = torch.randn(64, 3, 4, 4) * 3 + 5
    shakedown.settle(norm, x)
    assert torch.allclose(norm.running_mean, x.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm(x).std(), torch.tensor(1.0), atol=1e-2)
    assert norm.momentum == 0.1


def test_a_small_net_goes_through_every_step(config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trial = shakedown.Trial("cifar10", Net("preresnet_cifar", {"depth": 8}), losses=1, ratio=0.5)
    facts = shakedown.shake("small", trial, config.cifar10, config.params, runtime.prepare(1, "cpu", 0))
    assert (facts["pivots"], facts["blocks"], facts["channels"]) == ([2, 3], 3, [112, 56])
    assert facts["macs"][1] < facts["macs"][0]
    assert not list(tmp_path.rglob("*"))  # it leaves no state behind
