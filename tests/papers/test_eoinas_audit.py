"""EoiNAS's audit, shakedown and training of the paper's nets."""

import csv
import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from stages.lib import artifacts, models, runtime
from stages.lib.darts import darts_record, published
from stages.papers.eoinas import audit, descent, shakedown, train

ROOT = Path(__file__).parents[2]
torch.set_num_threads(1)
GNAS_2 = [3525598, 541768320, 5101312, 555322560]


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)
    return audit.main.configure([])


def test_genotypes_to_the_digit(config):
    assert len(config.params.genotypes) == 5
    told = {g.name: [*g.cifar, *g.imagenet] for g in config.params.genotypes}
    assert told["gnas_2"] == GNAS_2
    for genotype in config.params.genotypes:
        assert [row["computed"] for row in audit.genotype_rows(genotype, config)] == told[genotype.name]
    wrong = dataclasses.replace(config.params.genotypes[0], cifar=[3169415, 500987520])
    assert [row["ok"] for row in audit.genotype_rows(wrong, config)] == [False, True, True, True]


def test_only_the_cells_that_the_code_trains_stay_below_the_mobile_limit(config):
    sizes = {genotype.name: genotype.imagenet[1] for genotype in config.params.genotypes}
    assert sizes["gnas_2"] < 600e6 < sizes["gnas"]


def test_sizes_of_the_space_and_the_schedule(config):
    found = audit.computed(config)
    assert found["edges of a cell"] == 14 and found["drops"] == 7
    assert found["normal cells in the space"] == 1037664180
    assert found["pairs of cells in the space"] == 1076746950455072400
    assert found["mean draws of an operation before the first drop"] == 975
    assert audit.cells_of(2, 3) == 1 * 9 * 3 * 9


def test_the_script_writes_the_table(tmp_path, monkeypatch, capsys):
    (tmp_path / "params").symlink_to(ROOT / "params")
    monkeypatch.chdir(tmp_path)
    audit.main([])
    with open("runs/audit/eoinas.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    columns = "paper configuration quantity published computed relative_error tolerance ok read_from"
    assert list(rows[0]) == columns.split() and len(rows) == 28
    # The recalled 3.4 million are not those of the cells that the code trains by default.
    assert [row["configuration"] for row in rows if row["ok"] != "True"] == ["gnas_2, CIFAR-10"]


def test_paper_scale_training_has_the_papers_values(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = train.main.configure(["scale=paper", "dataset=cifar10", "arm=eoinas", "seed=0"])
    params = found.train
    assert (params.epochs, params.batch, params.lr, params.drop_path, params.auxiliary, params.cutout) == (
        600,
        64,
        0.025,
        0.3,
        0.4,
        16,
    )
    assert (found.net.cells, found.net.channels) == (20, 36)


def test_rates_drop_path_and_the_auxiliary_loss(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = train.main.configure(["scale=paper", "dataset=cifar10", "arm=eoinas", "seed=0"]).train
    assert [round(descent.rate(params, epoch), 6) for epoch in (0, 300, 600)] == [0.025, 0.0125, 0.0]
    assert descent.rate(dataclasses.replace(params, lr=0.1, lr_decay=0.97), 2) == pytest.approx(0.1 * 0.97**2)
    net = models.build(darts_record(published("gnas_2"), 3, 4, [3, 32, 32], 10, auxiliary=True))
    model = descent.Trainee(net, dataclasses.replace(params, drop_path=0.0), steps=2)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    logits, side = net.both(x)
    expected = torch.nn.functional.cross_entropy(logits, y) + 0.4 * torch.nn.functional.cross_entropy(side, y)
    torch.testing.assert_close(model.loss(x, y), expected)
    model.params = params
    model.clock += 600
    model.loss(x, y)
    assert net.drop == pytest.approx(0.3 * 300 / 600)


def test_gradients_are_clipped_before_the_update(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = train.main.configure(["scale=smoke", "dataset=digits", "arm=eoinas", "seed=0"]).train
    net = models.build(darts_record(published("gnas_2"), 3, 2, [1, 8, 8], 10))
    model = descent.Trainee(net, dataclasses.replace(params, clip=1e-3, weight_decay=0.0, momentum=0.0), steps=2)
    before = [p.detach().clone() for p in net.parameters()]
    model.loss(torch.randn(4, 1, 8, 8), torch.arange(4)).backward()
    model.after_step()
    moved = torch.cat([(p - b).flatten() for p, b in zip(net.parameters(), before, strict=True)]).norm()
    assert float(moved.detach()) == pytest.approx(params.lr * 1e-3, rel=1e-3)
    assert int(model.clock) == 1 and all(p.grad is None for p in net.parameters())


def test_a_small_trial_goes_through_every_step(monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = shakedown.main.configure(["threads=1", "device=cpu"])
    device = runtime.prepare(1, "cpu", 0)
    params = dataclasses.replace(cfg.params, shapes={name: [3, 40, 32] for name in cfg.params.shapes})
    for name, trial, dense in (
        ("cifar10", shakedown.Trial(cfg.cifar_space, cfg.cifar_search), False),
        ("cityscapes", cfg.cityscapes, True),
    ):
        small = dataclasses.replace(trial, space=dataclasses.replace(trial.space, channels=2, cells=3, nodes=1))
        facts, genotype = shakedown.shake_search(small, params, name, device, dense)
        assert len(facts["macs"]) == 8 and facts["parameters"][-1] < facts["parameters"][0]
        assert facts["macs"] == sorted(facts["macs"], reverse=True) and genotype.nodes == 1
    net = dataclasses.replace(cfg.cifar_net, cells=3, channels=2)
    found = shakedown.shake_training(genotype, net, cfg.cifar_train, params, "cifar10", device)
    assert found["parameters"] < found["parameters_with_auxiliary"]


@pytest.mark.slow
def test_the_paper_scale_goes_through(tmp_path, monkeypatch):
    (tmp_path / "params").symlink_to(ROOT / "params")
    monkeypatch.chdir(tmp_path)
    shakedown.main(["threads=1", "device=cpu"])
    facts = artifacts.read_json(shakedown.FACTS)["runs"]
    assert [facts[f"{name} search"]["edges"] for name in ("cifar10", "cityscapes")] == [14, 14]
    for name in ("cifar10 search", "cityscapes search"):
        assert all(later < earlier for earlier, later in itertools.pairwise(facts[name]["parameters"]))
