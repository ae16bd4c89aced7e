"""The digits reader: splits, noise, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy
import pytest

from stages.lib import artifacts
from stages.prepare import digits, samples

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root with the embedded digits."""
    shutil.copytree(ROOT / "params/dataset", tmp_path / "params/dataset")
    shutil.copy(ROOT / "params/config.yaml", tmp_path / "params/config.yaml")
    samples.make_digits(tmp_path / "data/sample/digits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepared() -> dict[str, tuple[numpy.ndarray, numpy.ndarray]]:
    return {name: artifacts.read_npz(f"runs/prepare/digits/{name}.npz", "x", "y") for name in ("train", "val", "test")}


def fails(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        digits.main(list(arguments))
    err = capsys.readouterr().err
    assert end.value.code == 1
    assert err.count("\n") == 1
    assert not Path("runs/prepare/digits/manifest.json").exists()
    return err


def test_sizes_origin_and_repetition(project):
    digits.main([])
    first = {item.name: item.read_bytes() for item in Path("runs/prepare/digits").iterdir()}
    about = artifacts.verify_manifest("runs/prepare/digits/manifest.json")
    assert about["counts"] == {"train": 1000, "val": 200, "test": 597}
    assert about["files"] == "official"  # scikit-learn's copy is UCI's optdigits.tes byte for byte
    for _, y in prepared().values():
        counts = numpy.bincount(y)
        assert counts.max() - counts.min() <= 0.06 * len(y)
    digits.main([])
    assert {item.name: item.read_bytes() for item in Path("runs/prepare/digits").iterdir()} == first


def test_splits_are_disjoint_and_hold_scikit_learns_digits(project):
    from sklearn.datasets import load_digits

    digits.main(["params.noise_std=0"])
    joined = numpy.concatenate([x for x, _ in prepared().values()])
    labels = numpy.concatenate([y for _, y in prepared().values()])
    known = load_digits()
    wanted = numpy.round(85 * (known.images / 16 + 1)).astype(int).reshape(1797, -1)
    found = sorted((*row, label) for row, label in zip(joined.reshape(1797, -1).tolist(), labels.tolist(), strict=True))
    assert found == sorted((*row, label) for row, label in zip(wanted.tolist(), known.target.tolist(), strict=True))


def test_noise_has_the_asked_deviation(project):
    digits.main(["params.noise_std=0"])
    clean = {name: x.astype(float) for name, (x, _) in prepared().items()}
    digits.main([])
    for name, (x, _) in prepared().items():
        noise = (x - clean[name]) / 85
        assert abs(noise.mean()) < 0.01
        assert abs(noise.std() - 0.25) < 0.01


def test_both_publishers_files_keep_their_division(project):
    lines = Path("data/sample/digits/optdigits.tes").read_text().splitlines(keepends=True)
    folder = Path("data/publisher/digits")
    folder.mkdir(parents=True)
    (folder / "optdigits.tra").write_text("".join(lines[:1200]))
    (folder / "optdigits.tes").write_text("".join(lines[1200:]))
    digits.main(["source=publisher"])
    about = artifacts.read_json("runs/prepare/digits/manifest.json")
    assert about["counts"] == {"train": 1080, "val": 120, "test": 597}
    assert (about["files"], about["source"]) == ("re-made", "publisher")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda text: text[:-20], "line 1797"),
        (lambda text: text.replace("\n", ",3\n", 1), "line 1:"),
        (lambda text: "17" + text[1:], "line 1:"),
        (lambda text: "nan" + text[1:], "line 1:"),
        (lambda text: "-1" + text[1:], "line 1:"),
        (lambda text: "", "empty"),
        (lambda text: text[: text.index("\n", 9000) + 1], "splits"),
        (lambda text: text + text.splitlines()[0].rsplit(",", 1)[0] + ",10\n", "line 1798"),
    ],
)
def test_damaged_files_are_told(project, capsys, edit, told):
    folder = Path("data/publisher/digits")
    folder.mkdir(parents=True)
    (folder / "optdigits.tes").write_text(edit(Path("data/sample/digits/optdigits.tes").read_text()))
    assert told in fails(capsys, "source=publisher")


def test_an_altered_sample_and_bad_parameters_are_told(project, capsys):
    assert "noise_std" in fails(capsys, "params.noise_std=-1")
    assert "sizes" in fails(capsys, "params.sizes.val=0")
    assert "splits" in fails(capsys, "params.sizes.val=900")
    path = Path("data/sample/digits/optdigits.tes")
    path.write_text(path.read_text().replace("0,0,5,13", "0,0,5,12", 1))
    assert "samples" in fails(capsys)
    path.unlink()
    assert "optdigits.tes" in fails(capsys)
