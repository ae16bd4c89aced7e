"""CHEX's audit: dense sizes to the digit, printed reductions, places of the shortcut convolutions."""

import csv
import dataclasses
from pathlib import Path

import pytest
import yaml

from stages.lib.stage import StageError
from stages.papers.chex import audit

ROOT = Path(__file__).parents[2]
# Of section 5 of the specification, with 1000 MACs less: there the bias of fc counts.
TABLE = {18: (11689512, 1814074344), 34: (21797672, 3663762408), 50: (25557032, 4089185256), 101: (44549160, 7801406440)}


@pytest.fixture(scope="module")
def params() -> audit.AuditParams:
    tree = yaml.safe_load((ROOT / "params/chex/paper.yaml").read_text())["audit"]
    kinds = {"sizes": audit.Size, "reductions": audit.Reduction, "shortcuts": audit.Shortcuts}
    return audit.AuditParams(**{key: [kind(**row) for row in tree[key]] for key, kind in kinds.items()})


@pytest.mark.parametrize("depth", list(TABLE))
def test_sizes_to_the_digit(params, depth):
    size = next(size for size in params.sizes if size.depth == depth)
    assert (size.parameters, size.macs + 1000) == TABLE[depth]
    assert all(row["ok"] and row["relative_error"] == 0 for row in audit.size_rows(size))
    wrong = dataclasses.replace(size, parameters=size.parameters + 1)
    assert [row["ok"] for row in audit.size_rows(wrong)] == [False, True]


def test_reductions_follow_but_for_the_one_that_does_not(params):
    found = {row["configuration"]: row for row in map(audit.reduction_row, params.reductions)}
    assert [name for name, row in found.items() if not row["ok"]] == ["ResNet-101, 3.4 GFLOPs left"]
    assert found["ResNet-18, 1.03 GFLOPs left"]["computed"] == pytest.approx(43.2, abs=0.05)
    assert found["ResNet-50, 1 GFLOPs left"]["computed"] == pytest.approx(75.5, abs=0.05)


def test_shortcuts_stand_where_the_official_code_counts_them(params):
    (shortcuts,) = params.shortcuts
    assert [row["computed"] for row in audit.shortcut_rows(shortcuts)] == [5, 15, 28, 47]
    with pytest.raises(StageError, match="has 4, got 1"):
        audit.shortcut_rows(dataclasses.replace(shortcuts, places=[5]))


def test_the_script_writes_the_table(tmp_path, monkeypatch):
    (tmp_path / "params").symlink_to(ROOT / "params")
    monkeypatch.chdir(tmp_path)
    audit.main([])
    with open("runs/audit/chex.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    columns = "paper configuration quantity published computed relative_error tolerance ok read_from"
    assert list(rows[0]) == columns.split() and len(rows) == 20
