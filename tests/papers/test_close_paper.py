"""CLOSE's own settings: they compose, agree with the audit's figures, and the real nets run for a few steps."""

import csv
from pathlib import Path

import pytest

from stages.lib.artifacts import read_json
from stages.lib.errors import StageError
from stages.papers.close import audit, shakedown, supernets

ROOT = Path(__file__).parents[2]


def test_the_papers_values(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = supernets.main.configure(["scale=paper", "dataset=cifar10", "seed=0"])
    sgd = found.params
    assert (sgd.epochs, sgd.batch, sgd.lr, sgd.momentum, sgd.weight_decay, sgd.clip) == (1000, 256, 0.05, 0.9, 5e-4, 5.0)
    assert (sgd.schedule, sgd.restart, sgd.patience, sgd.factor) == ([1, 201, 401, 601], 401, 30, 0.5)
    assert (found.gate.temperature, found.gate.hidden, found.gate.encoder.widths) == (5.0, [200] * 3, [128] * 5)


def test_every_known_figure_agrees(monkeypatch, tmp_path):
    (tmp_path / "params").symlink_to(ROOT / "params")
    monkeypatch.chdir(tmp_path)
    audit.main([])
    with open(audit.CSV) as handle:
        table = list(csv.DictReader(handle))
    assert len(table) == 20 and all(row["ok"] == "True" and float(row["tolerance"]) == 0 for row in table)
    first = Path(audit.CSV).read_bytes()
    audit.main([])
    assert Path(audit.CSV).read_bytes() == first


def test_a_wrong_figure_and_an_unknown_one(monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = audit.main.configure([])
    cfg.params.known = [audit.Known("x", "pairs of cells", 2, "nowhere"), audit.Known("x", "moons", 2, "nowhere")]
    with pytest.raises(StageError, match="'moons' is not one of"):
        audit.rows(cfg)
    cfg.params.known.pop()
    assert [row["ok"] for row in audit.rows(cfg)] == [False]


@pytest.mark.slow
def test_the_real_supernets_are_stepped_searched_and_extracted(monkeypatch, tmp_path):
    (tmp_path / "params").symlink_to(ROOT / "params")
    monkeypatch.chdir(tmp_path)
    shakedown.main([])
    facts = read_json(shakedown.FACTS)["spaces"]
    assert (facts["nb201"]["parameters"], facts["nb201"]["gate_parameters"]) == (1148506, 246780)
    assert facts["nb301"]["levels"] == [1, 2] and facts["nds"]["levels"] == [9, 10] and facts["nds"]["blocks"] == 17
    assert all(found["image"] == [3, 32, 32] and found["scored"] == 6 for found in facts.values())
