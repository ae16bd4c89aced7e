"""ManiDP at the paper's scale: audited sizes, refusals, and the shakedown's own arithmetic on a small net."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from stages.lib.stage import StageError
from stages.papers.manidp import audit, shakedown
from stages.papers.manidp.train import Net

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_audit_writes_a_row_a_figure_and_all_agree(workspace):
    audit.main([])
    with open(audit.CSV, newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == [
        "paper", "configuration", "quantity", "published", "computed", "relative_error", "tolerance", "ok", "read_from"
    ]  # fmt: skip
    assert {row["ok"] for row in rows} == {"True"}
    exact = {(row["configuration"], row["quantity"]): int(row["computed"]) for row in rows if row["tolerance"] == "0.0"}
    assert exact["resnet56", "macs"] == 125747840
    assert exact["resnet56", "gate macs"] == 190976
    assert exact["resnet34", "macs"] == 3663761408


@pytest.mark.parametrize(
    "figure",
    [audit.Figure(net="resnet99", quantity="macs", value=1.0), audit.Figure(net="resnet20", quantity="flops", value=1.0)],
)
def test_figures_that_cannot_be_computed(figure):
    params = audit.AuditParams(nets={"resnet20": Net("resnet_cifar", {"depth": 20})}, squeeze=2, figures=[figure])
    with pytest.raises(StageError, match="audit.figures"):
        audit.row(figure, params, {})


def test_a_wrong_figure_is_not_ok():
    figure = audit.Figure(net="resnet20", quantity="gate_macs", value=61953, read_from="x")
    params = audit.AuditParams(nets={"resnet20": Net("resnet_cifar", {"depth": 20})}, squeeze=2, figures=[figure])
    assert audit.row(figure, params, {})["ok"] is False


def test_shakedown_of_a_small_net(workspace):
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    trial = shakedown.Trial("cifar10", Net("resnet_cifar", {"depth": 8}))
    facts = shakedown.shake("small", trial, config.cifar10, config.params, torch.device("cpu"))
    assert facts["gates"] == facts["thresholds_set"] == 6
    assert facts["fewer_macs"]


def test_reduction_changes_amounts_only(workspace):
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    trial = config.params.trials["resnet34"]
    small = shakedown.reduced(config.imagenet, trial, config.params)
    for key in ("lam", "gamma", "easy", "keep_rate", "lr", "gate_scale", "form"):
        assert getattr(small.gate, key) == getattr(config.imagenet.gate, key)
    assert small.train.net.options == {"depth": 34}
