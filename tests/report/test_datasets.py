"""The table of data sets."""

import csv
import json
import subprocess
import sys

from stages.report.summarise import particulars
from tests.workflow.toy import ROOT, environment

MANIFEST = {
    "dataset": "a", "source": "sample", "files": "official", "counts": {"train": 3, "val": 2, "test": 1},
    "classes": ["x", "y"], "shape": [1, 8, 8], "split": "as | published", "outputs": {},
}  # fmt: skip


def run(folder, argument):
    """The stage script in a folder of its own."""
    command = [sys.executable, str(ROOT / "stages/report/datasets.py"), argument]
    return subprocess.run(command, cwd=folder, env=environment(ROOT), capture_output=True, text=True)


def prepared(folder, name, manifest):
    (folder / "params").mkdir(exist_ok=True)
    (folder / "params/config.yaml").write_text("threads: 1\n")
    path = folder / "runs/prepare" / name / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest))


def test_one_row_a_data_set(tmp_path):
    prepared(tmp_path, "a", MANIFEST)
    prepared(tmp_path, "b", {key: value for key, value in MANIFEST.items() if key != "shape"} | {"dataset": "b"})
    done = run(tmp_path, "datasets=a+b")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "reports/data.csv").open()))
    assert [(row["dataset"], row["shape"], row["test"]) for row in rows] == [("a", "1 x 8 x 8", "1"), ("b", "index", "1")]
    assert "as \\| published" in (tmp_path / "reports/data.md").read_text()


def test_a_manifest_without_counts_is_refused(tmp_path):
    prepared(tmp_path, "a", {key: value for key, value in MANIFEST.items() if key != "counts"})
    done = run(tmp_path, "datasets=a")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "manifest.json" in done.stderr
    assert not (tmp_path / "reports").exists()


def test_photographs_are_counted_by_set(tmp_path):
    counts = {"train": {"a": {"clean": 3, "x2": 3}}, "test": {"b": {"clean": 2}, "c": {"clean": 4, "x2": 1}}}
    kept = {key: value for key, value in MANIFEST.items() if key not in ("classes", "shape")}
    prepared(tmp_path, "a", kept | {"counts": counts})
    assert run(tmp_path, "datasets=a").returncode == 0
    (row,) = csv.DictReader((tmp_path / "reports/data.csv").open())
    assert [row[key] for key in ("train", "val", "test", "classes", "shape")] == ["3", "0", "6", "", "photographs"]
    assert row["split"].endswith("b 2, c 4")


def test_a_set_of_photographs_is_told_by_its_clean_images() -> None:
    """As of any other set, in the sentence beside each result."""
    counts = {"train": {"photographs": {"clean": 8, "x2": 8}}, "test": {"one": {"clean": 5, "x2": 5}, "two": {"clean": 3}}}
    assert particulars({"counts": counts, "split": "by photograph"}) == "8 train, 8 test; by photograph"
    assert particulars({"counts": {"val": 9, "train": 1200}}) == "1,200 train, 9 val"
