"""The audit: sizes to the digit, rounding, and refusals; the paper's own settings compose and run a few steps."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from stages.lib import runtime
from stages.lib.errors import StageError
from stages.papers.discriminant_information_pruning import audit, channels, prune, shakedown, train
from stages.papers.discriminant_information_pruning.train import SLUG, Net

ROOT = Path(__file__).parents[2]
NETS = {"small": Net("preresnet_cifar", {"depth": 8})}


@pytest.fixture
def params(monkeypatch) -> audit.AuditParams:
    monkeypatch.chdir(ROOT)
    return audit.main.configure([]).params


def test_all_figures_agree_but_the_readmes_own_contradiction(params):
    table = [audit.row(figure, params.nets) for figure in params.figures]
    assert [row["configuration"] for row in table if not row["ok"]] == ["resnet50, 1.5G"]
    sizes = {(row["configuration"], row["quantity"]): row["computed"] for row in table}
    assert sizes["resnet50", "parameters"] == 25557032
    assert sizes["resnet50", "MACs, with the additions of the last bias"] == 4089185256
    assert sizes["resnet50", "MACs when 44% are removed"] == int(0.56 * 4089184256)
    assert sizes["resnet50, 1.5G", "share of MACs removed"] == pytest.approx(0.633, abs=1e-3)


@pytest.mark.parametrize(("quantity", "off"), [("parameters", 1), ("macs", 1e8), ("budget", 2e7), ("structure", 2e8)])
def test_a_wrong_figure_is_caught(params, quantity, off):
    figure = next(f for f in params.figures if f.quantity == quantity)
    value, _ = audit.computed(figure, params.nets)
    right, wrong = (dataclasses.replace(figure, published=value + d) for d in (0, off))
    assert [audit.row(f, params.nets)["ok"] for f in (right, wrong)] == [True, False]


@pytest.mark.parametrize(("change", "said"), [({"net": "alexnet"}, "alexnet"), ({"quantity": "flops"}, "flops")])
def test_impossible_figures_are_refused(change, said):
    figure = audit.Figure(**({"net": "small", "quantity": "macs", "published": 1.0, "read_from": "here"} | change))
    with pytest.raises(StageError, match=said):
        audit.row(figure, NETS)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_impossible_shares_are_refused(share):
    figure = audit.Figure(net="small", quantity="budget", published=1.0, share=share, read_from="here")
    with pytest.raises(StageError, match="budget"):
        audit.row(figure, NETS)


def test_the_script_writes_the_table(tmp_path):
    for name in ("params", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, f"stages/papers/{SLUG}/audit.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / f"runs/audit/{SLUG}.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    columns = "paper configuration quantity published computed relative_error tolerance ok read_from"
    assert list(rows[0]) == columns.split()
    assert {row["paper"] for row in rows} == {SLUG}


# --- the paper's own settings -----------------------------------------------------------------------------------------


@pytest.fixture
def config(monkeypatch) -> shakedown.Config:
    monkeypatch.chdir(ROOT)
    return shakedown.main.configure(["threads=1", "device=cpu"])


@pytest.mark.parametrize("dataset", ["cifar10", "imagenet"])
def test_paper_scale_composes_for_every_stage(monkeypatch, dataset):
    monkeypatch.chdir(ROOT)
    keys = ["scale=paper", f"dataset={dataset}", "seed=0"]
    first = train.main.configure(keys).params
    both = prune.main.configure([*keys, "arm=di"])
    assert channels.main.configure(["scale=paper", "seed=0"]).params.draws == 10
    assert (both.params.delta, both.params.rho, both.params.ridge, both.params.interlude.every) == (0.005, 0.1, "absolute", 2)
    assert both.finetune.scratch.epochs == first.epochs + 50 + both.finetune.epochs


def test_reduction_changes_amounts_only(config):
    small = shakedown.reduced(config.imagenet, config.params)
    for key in ("lr", "weight_decay", "pad", "flip", "milestones"):
        assert getattr(small.train, key) == getattr(config.imagenet.train, key)
    for key in ("hook", "ridge", "rho", "delta", "most", "layers"):
        assert getattr(small.prune, key) == getattr(config.imagenet.prune, key)
    assert small.prune.interlude.lr == config.imagenet.prune.interlude.lr


def test_a_small_net_goes_through_every_step(config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trial = shakedown.Trial("cifar10", NETS["small"])
    facts = shakedown.shake("small", trial, config.cifar10, config.params, runtime.prepare(1, "cpu", 0))
    assert len(facts["steps"]) >= 1
    assert facts["macs"][1] <= facts["macs"][0] * (1 - config.params.greedy_steps * 0.005)
    assert facts["channels"][1] < facts["channels"][0] == 112
    assert not list(tmp_path.rglob("*"))  # it leaves no state behind
