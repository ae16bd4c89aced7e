"""The audit of dcp: sizes of the paper's nets to the digit, rounding tolerances, and refusals."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import macs, models, surgery
from stages.lib.stage import StageError
from stages.papers.dcp import audit
from stages.papers.dcp.train import Net

ROOT = Path(__file__).parents[2]

# net -> eta -> (parameters, MACs), computed once by other code; the paper prints three digits of each.
TABLE = {
    "preresnet56": {0: (855578, 125747840), 0.3: (607754, 91261568), 0.5: (430634, 63226496), 0.7: (271280, 39780992)},
    "vgg19": {0: (20040522, 398136320), 0.3: (10361991, 198741788), 0.4: (7826670, 147225536)},
    "resnet18": {
        0: (11689512, 1814073344),
        0.3: (8410928, 1315637504),
        0.5: (6194856, 975933440),
        0.7: (4009328, 648986624),
    },
    "resnet50": {
        0: (25557032, 4089184256),
        0.3: (17021126, 2629867579),
        0.5: (12381864, 1822031872),
        0.7: (8713982, 1184923876),
    },
}


@pytest.fixture(scope="module")
def params():
    tree = yaml.safe_load((ROOT / "params/dcp/paper.yaml").read_text())["audit"]
    figures = [audit.Figure(**row) for row in tree.pop("figures")]
    nets = {name: Net(**spec) for name, spec in tree.pop("nets").items()}
    return audit.AuditParams(**tree, nets=nets, figures=figures)


@pytest.fixture(scope="module")
def table(params):
    return [(figure, audit.rows(figure, params)) for figure in params.figures]


def test_every_size_to_the_digit(table):
    found = {}
    for figure, (parameters, multiply_adds) in table:
        if not figure.ratio:
            found.setdefault(figure.net, {})[figure.eta] = (parameters["computed"], multiply_adds["computed"])
    assert found == TABLE


def test_a_net_cut_by_surgery_has_the_audited_size():
    net = models.preresnet_cifar(56)
    kept = {name: torch.arange(width) for name, width in surgery.kept_widths(net, 0.5).items()}
    thin = surgery.cut(net, kept)
    assert (macs.parameters(thin), macs.count(thin, torch.zeros(1, 3, 32, 32))) == TABLE["preresnet56"][0.5]


def test_all_figures_agree(table):
    assert [row for _, pair in table for row in pair if not row["ok"]] == []


def test_a_wrong_figure_is_not_ok(params):
    wrong = dataclasses.replace(next(f for f in params.figures if f.exact and f.net == "preresnet56"), parameters=855579)
    assert [row["ok"] for row in audit.rows(wrong, params)] == [False, True]


def test_adaptive_ratios(table):
    rows = next(pair for figure, pair in table if figure.name == "DCP-Adapt")
    assert [round(row["computed"], 3) for row in rows] == [15.608, 2.864]


@pytest.mark.parametrize(
    ("value", "expected"), [(8.56e5, 500 / 8.56e5), (1.00e7, 5e4 / 1e7), (9.99e6, 5e3 / 9.99e6), (855578, 500 / 8.56e5)]
)
def test_half_unit_of_the_third_digit(value, expected):
    assert audit.half_unit(value, 3) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (0.995, False), (1.005, False)])
def test_a_wrong_figure_is_caught(params, factor, ok):
    figure = audit.Figure(net="preresnet56", eta=0.3, parameters=607754 * factor, macs=9.13e7, read_from="here")
    parameters, multiply_adds = audit.rows(figure, params)
    assert (parameters["ok"], multiply_adds["ok"]) == (ok, True)


@pytest.mark.parametrize("change", [{"net": "alexnet"}, {"widths": [1, 2]}, {"eta": 1.0}])
def test_impossible_figures_are_refused(params, change):
    figure = audit.Figure(**({"net": "vgg19", "parameters": 1.0, "macs": 1.0, "read_from": "here"} | change))
    with pytest.raises(StageError):
        audit.rows(figure, params)


def test_the_script_writes_the_table(tmp_path):
    for name in ("params", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "stages/papers/dcp/audit.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "runs/audit/dcp.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == [
        "paper",
        "configuration",
        "quantity",
        "published",
        "computed",
        "relative_error",
        "tolerance",
        "ok",
        "read_from",
    ]
    assert {row["computed"] for row in rows} >= {str(n) for etas in TABLE.values() for pair in etas.values() for n in pair}
