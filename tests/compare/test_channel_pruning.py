"""The comparison of pruning methods: budgets, equal passes, pairing."""

import math
import subprocess
import sys

import pytest

from stages.compare.channel_pruning import explore, gate, nets, prune, settings, table
from stages.lib import macs, surgery
from stages.lib.errors import StageError
from stages.papers.chex.settings import fits
from stages.papers.dcp import pivots
from stages.papers.manidp.nets import resnet_bare
from tests.workflow.toy import ROOT, environment


def dense():
    return resnet_bare([2, 2, 2], [8, 16, 32], image=8, in_channels=1)


@pytest.mark.parametrize("share", [0.7, 0.5, 0.3])
def test_uniform_rate_is_the_smallest_that_meets_the_budget(share):
    net = dense()
    rate, target = nets.uniform_rate(net, share), share * macs.total(net.record()).macs
    assert nets.cost(net, surgery.kept_widths(net, rate)) <= target
    assert nets.cost(net, surgery.kept_widths(net, rate - 1 / nets.STEPS)) > target


def test_a_budget_below_the_stem_is_refused():
    with pytest.raises(StageError):
        nets.uniform_rate(dense(), 0.01)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_keep_rate_inverts_the_cost_of_a_block(share):
    rate = gate.keep_rate(share)
    assert math.isclose((rate + rate**2) / 2, share)


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_dcps_heads_stand_within_the_net(scale, dataset, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = prune.main.configure([f"scale={scale}", f"dataset={dataset}", "method=dcp", "budget=low", "seed=100"])
    blocks = sum(cfg.params.net.options["blocks"])
    ends = pivots.resolve(blocks, len(cfg.params.pivots), cfg.params.pivots)
    assert len(ends) > 1, "DCP without a head inside the net is not DCP"


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_chex_gets_the_common_passes_and_macs(scale, dataset, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [f"scale={scale}", f"dataset={dataset}", "method=chex", "budget=low", "seed=100"]
    cfg = explore.main.configure(words)
    chex = explore.of_budget(cfg.chex, cfg.params, 0.3)
    fits(chex.exploration, chex.sgd)  # raises where exploration would not end within the run
    assert chex.sgd.epochs == cfg.params.epochs + cfg.params.extra
    assert chex.exploration.macs == 0.3
    assert chex.exploration.delta == cfg.chex.exploration.delta


def row(method, budget, seed, accuracy, ratio=0.5):
    key = {"scale": "small", "dataset": "digits", "method": method, "budget": budget, "seed": seed}
    return {**key, "accuracy": accuracy, "macs_ratio": ratio, "bytes": 10}


def test_differences_are_paired_by_seed():
    rows = [row("thin_scratch", "low", seed, 0.5 + 0.1 * seed) for seed in range(3)]
    rows += [row("chex", "low", seed, 0.6 + 0.1 * seed) for seed in reversed(range(3))]
    rows += [row("dense", "all", seed, 0.9, 1.0) for seed in range(3)]
    found = table.summary(rows).set_index("method")
    assert math.isclose(found.against_scratch["chex"], 0.1)
    assert math.isclose(found.against_low["chex"], 0.1, abs_tol=1e-9)
    assert found.ci_high["chex"] > 0.8
    assert math.isnan(found.against_scratch["dense"])
    assert list(found.index) == ["dense", "chex", "thin_scratch"]


def test_a_budget_outside_the_unit_interval_is_refused():
    common = settings.Common(settings.Net("resnet_bare"), 0, 1, 0.1, 2, 0.1, 10, 0.0, 10, [], 1, 0, {"low": 1.2})
    with pytest.raises(StageError):
        common.check()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("prune", ["method=chex", "budget=low"]),
        ("explore", ["method=l1", "budget=low"]),
        ("prune", ["method=l1", "budget=tiny"]),
        ("gate", ["budget=tiny"]),
    ],
)
def test_wrong_words_are_one_line(script, words):
    command = [sys.executable, f"stages/compare/channel_pruning/{script}.py", "scale=smoke", "dataset=digits", "seed=100"]
    done = subprocess.run([*command, *words], cwd=ROOT, env=environment(ROOT), capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
