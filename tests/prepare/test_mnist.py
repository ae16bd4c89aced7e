"""MNIST's reader: IDX files gzipped or not, what it refuses, where they come from; the embedded sample."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy
import pytest
import yaml

from stages.lib import artifacts
from stages.prepare import mnist, samples
from tests.prepare import photographs

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/mnist/MNIST"
LAYOUT = "MNIST/raw"


def idx(magic: int, values: numpy.ndarray) -> bytes:
    """An IDX file's bytes."""
    return numpy.array([magic, *values.shape], ">u4").tobytes() + values.astype(numpy.uint8).tobytes()


def files(folder: Path, zipped: bool = False, first: int = 0, **changes: bytes) -> Path:
    """The four files with 60 and 30 random images, labels counted up from `first`; `changes` by t10k_labels and the like."""
    folder.mkdir(parents=True)
    for seed, (part, count) in enumerate((("train", 60), ("t10k", 30))):
        x = numpy.random.RandomState(seed + 2 * first).randint(0, 256, (count, 28, 28))
        made = {"images-idx3": idx(2051, x), "labels-idx1": idx(2049, (numpy.arange(count) + first) % 10)}
        for kind, content in made.items():
            content = changes.get(f"{part}_{kind[:6]}", content)
            name = f"{part}-{kind}-ubyte" + ".gz" * zipped
            (folder / name).write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root with params; small files stand in as this root's pinned embedded sample."""
    shutil.copytree(ROOT / "params/dataset", tmp_path / "params/dataset")
    shutil.copy(ROOT / "params/config.yaml", tmp_path / "params/config.yaml")
    folder = files(tmp_path / "data/sample/mnist" / LAYOUT)
    path = tmp_path / "params/dataset/mnist.yaml"
    params = yaml.safe_load(path.read_text())
    params["sample_sha256"] = {item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in folder.iterdir()}
    params["val"] = {"sample": 20, "publisher": 10}
    path.write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys, *arguments: str) -> str:
    return photographs.fails(mnist, "mnist", capsys, *arguments)


def prepared() -> tuple[dict, dict[str, tuple[numpy.ndarray, numpy.ndarray]]]:
    about = artifacts.verify_manifest("runs/prepare/mnist/manifest.json")
    return about, {name: artifacts.read_npz(f"runs/prepare/mnist/{name}.npz", "x", "y") for name in ("train", "val", "test")}


def test_the_sample_is_divided_and_keeps_its_pixels(project):
    mnist.main([])
    about, parts = prepared()
    assert about["counts"] == {"train": 40, "val": 20, "test": 30}
    assert (about["files"], about["shape"]) == ("embedded sample", [1, 28, 28])
    x = numpy.random.RandomState(1).randint(0, 256, (30, 28, 28))
    assert numpy.array_equal(parts["test"][0][:, 0], x)
    assert parts["test"][1].tolist() == [i % 10 for i in range(30)]
    assert len({row.tobytes() for name in ("train", "val") for row in parts[name][0]}) == 60
    assert numpy.bincount(parts["val"][1]).tolist() == [2] * 10


def test_gzipped_and_plain_files_give_the_same_splits(project):
    mnist.main(["params.val.sample=10"])
    _, plain = prepared()
    files(project / "data/publisher/mnist" / LAYOUT, zipped=True)
    mnist.main(["source=publisher"])
    about, zipped = prepared()
    assert about["files"] == "re-made"
    assert all(numpy.array_equal(a, b) for name in plain for a, b in zip(plain[name], zipped[name], strict=True))


ONES = numpy.ones((30, 28, 28))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"t10k_images": idx(2049, ONES)}, "magic number 2049"),
        ({"t10k_labels": idx(2051, numpy.zeros(30))}, "magic number 2051"),
        ({"t10k_images": idx(2051, numpy.ones((30, 27, 28)))}, "27 x 28 pixels"),
        ({"t10k_images": idx(2051, ONES)[:-1]}, "cut short"),
        ({"t10k_images": idx(2051, ONES) + b"x"}, "too long"),
        ({"t10k_labels": idx(2049, numpy.zeros(29))}, "29 labels for 30 images"),
        ({"t10k_labels": idx(2049, numpy.arange(30) % 11)}, "image 10: label 10"),
        ({"t10k_images": b"\0\0\x08"}, "expected a header"),
        ({"train_images": idx(2051, numpy.zeros((0, 28, 28)))}, "empty"),
    ],
)
def test_damaged_files_are_one_line(project, capsys, changes, word):
    zipped = "t10k_images" in changes  # some of both
    files(project / "data/publisher/mnist" / LAYOUT, zipped, 1, **changes)
    assert word in fails(capsys, "source=publisher")


def test_a_damaged_gzip_file_is_told_and_not_unpacked_further_than_its_header_says(project, capsys):
    folder = files(project / "data/publisher/mnist" / LAYOUT, zipped=True)
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    assert "not an intact gzip" in fails(capsys, "source=publisher")
    path.write_bytes(b"no gzip")
    assert "not an intact gzip" in fails(capsys, "source=publisher")
    path.write_bytes(gzip.compress(gzip.decompress(whole) + bytes(2_000_000)))
    assert "too long" in fails(capsys, "source=publisher")


def test_missing_files_misplaced_samples_and_settings_are_told(project, capsys):
    shutil.copytree(project / "data/sample/mnist", project / "data/publisher/mnist")
    assert "embedded sample" in fails(capsys, "source=publisher")
    assert "params.val" in fails(capsys, "params.val.sample=60")
    assert "params.shape" in fails(capsys, "params.shape=[3,28,28]")
    (project / "data/sample/mnist" / LAYOUT / "t10k-labels-idx1-ubyte").unlink()
    assert "t10k-labels-idx1-ubyte.gz: not found" in fails(capsys)


def test_the_embedded_sample_is_pinned_disjoint_and_of_scikit_learns_digits(tmp_path):
    from sklearn.datasets import load_digits

    folder = tmp_path / LAYOUT
    samples.make_mnist(folder)
    pins = yaml.safe_load((ROOT / "params/dataset/mnist.yaml").read_text())["sample_sha256"]
    assert {item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in folder.iterdir()} == pins
    read = {
        part: mnist.read_idx((folder / f"{part}-images-idx3-ubyte").read_bytes(), folder, 2051, [28, 28])
        for part in mnist.PARTS
    }
    assert {part: len(x) for part, x in read.items()} == {"train": 1200, "t10k": 597}
    wanted = sorted(image.tobytes() for image in samples.enlarged(load_digits().images.astype(int)))
    assert sorted(image.tobytes() for x in read.values() for image in x) == wanted


def test_enlarging_is_bilinear():
    import torch

    counts = numpy.random.RandomState(0).randint(0, 17, (5, 8, 8))
    exact = torch.nn.functional.interpolate(torch.tensor(counts)[:, None].double(), size=28, mode="bilinear")[:, 0] * 255 / 16
    assert numpy.abs(samples.enlarged(counts) - exact.numpy()).max() <= 0.5 + 1e-9


def test_the_publishers_files_are_called_official(project):
    if not REAL.is_dir():
        pytest.skip("no publisher's files in ../shared/data/mnist")
    shutil.copytree(REAL, project / "data/publisher/mnist/MNIST")
    mnist.main(["source=publisher"])
    about, parts = prepared()
    assert (about["files"], about["counts"]) == ("official", {"train": 59990, "val": 10, "test": 10000})
    assert parts["test"][1][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert about["mean"][0] == pytest.approx(0.1307, abs=1e-4)
    assert about["std"][0] == pytest.approx(0.3081, abs=1e-4)
