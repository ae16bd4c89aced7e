"""The embedded samples: pinned bytes, disjoint regions, the publisher's layout."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy
import pytest
import yaml

from stages.lib.errors import StageError
from stages.prepare import pickles, samples

ROOT = Path(__file__).parents[2]
PUBLISHER = ROOT / "../shared/data/cifar10"


def hashes(folder: Path) -> dict[str, str]:
    return {item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in folder.rglob("*") if item.is_file()}


def pins(dataset: str, key: str) -> dict[str, str]:
    return yaml.safe_load((ROOT / f"params/dataset/{dataset}.yaml").read_text())[key]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Both samples, written by the command."""
    root = tmp_path_factory.mktemp("sample")
    assert samples.main(["--root", str(root)]) == 0
    return root


def test_the_bytes_are_the_pinned_ones(written):
    assert hashes(written / "cifar10") == pins("cifar10", "sample_sha256")
    assert hashes(written / "digits") == {"optdigits.tes": pins("digits", "official_sha256")["optdigits.tes"]}


def test_writing_again_changes_nothing(written):
    before = hashes(written)
    (written / "cifar10/cifar-10-batches-py/data_batch_2").write_bytes(b"damaged")
    assert samples.main(["--root", str(written)]) == 0
    assert hashes(written) == before
    assert len(list(written.rglob("*.tmp"))) == 0


def test_pythons_own_pickle_reads_the_layout_as_the_publishers(written):
    for name, count in (("data_batch_1", 2000), ("data_batch_5", 1000), ("test_batch", 3000)):
        raw = (written / "cifar10/cifar-10-batches-py" / name).read_bytes()
        batch = pickle.loads(raw, encoding="bytes")  # our own file, just written
        assert set(batch) == {b"batch_label", b"labels", b"data", b"filenames"}
        assert (batch[b"data"].shape, batch[b"data"].dtype) == ((count, 3072), numpy.uint8)
        assert len(batch[b"labels"]) == len(batch[b"filenames"]) == count
        own = pickles.loads(raw, name)
        assert numpy.array_equal(own["data"], batch[b"data"])
        assert own["labels"] == batch[b"labels"]


def test_splits_are_balanced_and_share_no_patch(written):
    folder = written / "cifar10/cifar-10-batches-py"
    batches = {name: pickles.loads((folder / name).read_bytes(), name) for name in ("data_batch_5", "test_batch")}
    assert numpy.bincount(batches["test_batch"]["labels"]).tolist() == [300] * 10
    assert numpy.bincount(batches["data_batch_5"]["labels"]).tolist() == [100] * 10
    names = [file.decode().rsplit("_", 2)[0] for file in batches["test_batch"]["filenames"]]
    assert names == [sorted(set(names))[label] for label in batches["test_batch"]["labels"]]


def test_cells_of_the_splits_cover_the_grid_once():
    image, recipe = numpy.zeros((300, 451, 3), numpy.uint8), samples.Recipe()
    found = {split: {tuple(cell) for cell in samples.cells(image, split, recipe)} for split in ("train", "val", "test")}
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 7 * 11
    assert len(found["test"]) == pytest.approx(77 / 3, abs=1)


def test_every_patch_lies_inside_its_cell_with_a_margin():
    """An image whose pixels tell their own cell and place."""
    recipe = samples.Recipe(gain=0, offset=0)
    inside = numpy.arange(240) % 40
    image = numpy.stack([*numpy.meshgrid(inside, inside, indexing="ij"), numpy.zeros((240, 240))], -1).astype(numpy.uint8)
    out = samples.patches(image, "train", 200, 1, recipe)
    for channel in (0, 1):
        assert out[:, channel].min() >= 2
        assert out[:, channel].max() <= 37
        assert out[:, channel].min((1, 2)).tolist() != [2] * 200  # the place varies
    assert {*numpy.diff(out[:, 1].astype(int), axis=2).ravel()} == {1, -1}  # both directions: half are mirrored
    assert {*numpy.diff(out[:, 0].astype(int), axis=1).ravel()} == {1}


def test_flat_regions_give_no_patches():
    image = numpy.full((240, 240, 3), 90, numpy.uint8)
    with pytest.raises(StageError, match="contrast"):
        samples.patches(image, "train", 5, 1, samples.Recipe())
    image[:120] = numpy.arange(240)[None, :, None]
    out = samples.patches(image, "train", 50, 1, samples.Recipe(gain=0, offset=0))
    assert out.reshape(50, -1).std(1).min() > 0.02 * 255


def test_the_noise_is_nearly_normal():
    draws = samples._bell(numpy.random.RandomState(0), (200_000,)) / 65536
    assert abs(draws.mean()) < 0.01
    assert abs(draws.std() - 1) < 0.01
    assert abs((abs(draws) < 1).mean() - 0.683) < 0.01


def test_halving_is_the_rounded_mean():
    image = numpy.random.RandomState(0).randint(0, 256, (5, 6, 3)).astype(numpy.uint8)
    out = samples._halve(image)
    assert out.shape == (2, 3, 3)
    assert out[1, 2, 0] == int(image[2:4, 4:6, 0].astype(float).mean() + 0.5)


@pytest.mark.parametrize(
    "file", ["lossless-3000/cifar-10-batches-py/data_batch_1", "jpeg-decoded/cifar-10-batches-py/test_batch"]
)
def test_the_writer_makes_the_publishers_bytes(file):
    """Reading a Python 2 pickle and writing it again gives the same file."""
    path = PUBLISHER / file
    if not path.is_file():
        pytest.skip("no publisher's files in ../shared/data/cifar10")
    raw = path.read_bytes()
    batch = pickles.loads(raw, path)
    label, names = batch["batch_label"].decode(), [name.decode() for name in batch["filenames"]]
    assert pickles.dump_batch(label, batch["labels"], batch["data"], names) == raw


def test_an_unwritable_root_is_one_line(tmp_path, capsys, monkeypatch):
    for slow in ("make_cifar10", "make_cifar100"):  # the last one is enough, and fast
        monkeypatch.setattr(samples, slow, lambda folder: [])
    (tmp_path / "file").write_text("")
    assert samples.main(["--root", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
