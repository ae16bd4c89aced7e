"""CIFAR-100's reader: fine and coarse labels, the layout, what it refuses, what it says about the files' origin."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy
import pytest
import yaml

from stages.lib import artifacts
from stages.prepare import cifar100, pickles, samples
from tests.prepare import photographs

ROOT = Path(__file__).parents[2]
LAYOUT = "cifar-100-python"
FINE, COARSE = ["ant", "bee", "cod", "dab0"], ["insect", "fish"]


def content(count: int, seed: int, **changes: object) -> bytes:
    """A file of random images; class by class in turn, two fine classes to a coarse one."""
    fine = [i % 4 for i in range(count)]
    entries = {
        "filenames": [f"{i}.png" for i in range(count)],
        "batch_label": "x",
        "fine_labels": fine,
        "coarse_labels": [label // 2 for label in fine],
        "data": numpy.random.RandomState(seed).randint(0, 256, (count, 3072)).astype(numpy.uint8),
    }
    return pickles.dump(entries | changes)


def files(folder: Path, seed: int = 0, **changes: bytes) -> Path:
    """The three files of the layout; another seed makes others."""
    meta = pickles.dump({"fine_label_names": [*FINE[:3], f"dab{seed}"], "coarse_label_names": COARSE})
    folder.mkdir(parents=True)
    for name, raw in ({"meta": meta, "train": content(80, seed + 1), "test": content(40, seed + 2)} | changes).items():
        (folder / name).write_bytes(raw)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root with params; small files stand in as this root's pinned embedded sample."""
    shutil.copytree(ROOT / "params/dataset", tmp_path / "params/dataset")
    shutil.copy(ROOT / "params/config.yaml", tmp_path / "params/config.yaml")
    folder = files(tmp_path / "data/sample/cifar100" / LAYOUT)
    path = tmp_path / "params/dataset/cifar100.yaml"
    params = yaml.safe_load(path.read_text())
    params["sample_sha256"] = {item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in folder.iterdir()}
    params["val_tail"]["sample"] = 20
    path.write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys, *arguments: str) -> str:
    return photographs.fails(cifar100, "cifar100", capsys, *arguments)


def prepared() -> tuple[dict, dict[str, numpy.ndarray]]:
    about = artifacts.verify_manifest("runs/prepare/cifar100/manifest.json")
    return about, {name: artifacts.read_npz(f"runs/prepare/cifar100/{name}.npz", "x", "y") for name in ("train", "val", "test")}


def test_the_samples_tail_is_validation(project):
    cifar100.main([])
    about, parts = prepared()
    assert about["counts"] == {"train": 60, "val": 20, "test": 40}
    assert (about["files"], about["classes"]) == ("embedded sample", FINE)
    raw = pickles.loads((project / "data/sample/cifar100" / LAYOUT / "train").read_bytes(), "")
    assert numpy.array_equal(parts["val"][0].reshape(20, -1), raw["data"][-20:])
    assert parts["val"][1].tolist() == raw["fine_labels"][-20:]


def test_coarse_labels(project):
    cifar100.main([])
    _, fine = prepared()
    cifar100.main(["params.labels=coarse"])
    about, coarse = prepared()
    assert about["classes"] == COARSE
    for name in fine:
        assert (coarse[name][1] == fine[name][1] // 2).all()
        assert numpy.array_equal(coarse[name][0], fine[name][0])


def test_a_publishers_folder_is_divided_and_called_re_made(project):
    files(project / "data/publisher/cifar100" / LAYOUT, 10, train=content(100, 7))
    cifar100.main(["source=publisher"])
    about, parts = prepared()
    assert about["counts"] == {"train": 90, "val": 10, "test": 40}
    assert about["files"] == "re-made"
    assert len({row.tobytes() for name in ("train", "val") for row in parts[name][0]}) == 100


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"train": content(80, 11)[:-500]}, "cut short"),
        ({"train": content(80, 11, fine_labels=[0] * 79)}, "79 fine_labels"),
        ({"train": content(80, 11, fine_labels=[4] * 80)}, "label 4"),
        ({"test": content(40, 12, coarse_labels=[i // 4 % 2 for i in range(40)])}, "two coarse classes"),
        ({"test": content(40, 12, data=numpy.zeros((40, 100), numpy.uint8))}, "expected uint8"),
        ({"meta": pickles.dump({"fine_label_names": FINE})}, "coarse_label_names"),
        ({"train": b"\x80\x02cos\nsystem\nU\x04true\x85R."}, "os.system"),
    ],
)
def test_damaged_files_are_one_line(project, capsys, changes, word):
    files(project / "data/publisher/cifar100" / LAYOUT, 10, **changes)
    assert word in fails(capsys, "source=publisher")


@pytest.mark.parametrize(
    ("argument", "word"),
    [("params.labels=both", "fine or coarse"), ("params.val_tail.sample=80", "val_tail"), ("params.val_share=1", "val_share")],
)
def test_settings_out_of_range(project, capsys, argument, word):
    assert word in fails(capsys, argument)


def test_a_missing_file_is_named(project, capsys):
    (project / "data/sample/cifar100" / LAYOUT / "test").unlink()
    assert "test: not found" in fails(capsys)


def test_the_embedded_sample_has_balanced_classes_and_regions_of_its_own(tmp_path):
    folder = tmp_path / LAYOUT
    samples.make_cifar100(folder)
    pins = yaml.safe_load((ROOT / "params/dataset/cifar100.yaml").read_text())["sample_sha256"]
    assert {item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in folder.iterdir()} == pins
    train = pickles.loads((folder / "train").read_bytes(), "train")
    assert numpy.bincount(train["fine_labels"]).tolist() == [230] * 20
    assert numpy.bincount(train["fine_labels"][-600:]).tolist() == [30] * 20
    assert all(b"_val_" in name for name in train["filenames"][-600:])
    assert not any(b"_val_" in name for name in train["filenames"][:-600])
