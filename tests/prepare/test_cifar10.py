"""CIFAR-10's reader: the layout, what it refuses, what it says about the origin of the files."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
import yaml

from stages.lib import artifacts, data
from stages.lib.errors import StageError
from stages.prepare import cifar10, pickles
from tests.prepare import photographs

ROOT = Path(__file__).parents[2]
PUBLISHER = ROOT / "../shared/data/cifar10"
NAMES = ["one", "two", "three"]
BATCHES = "cifar-10-batches-py"


def batch(count: int = 60, seed: int = 0) -> bytes:
    """A batch of random images with balanced labels."""
    pixels = numpy.random.RandomState(seed).randint(0, 256, (count, 3072)).astype(numpy.uint8)
    return pickles.dump_batch("x", [i % 3 for i in range(count)], pixels, [f"{i}.png" for i in range(count)])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root with params; small batches stand in as this root's pinned embedded sample."""
    shutil.copytree(ROOT / "params/dataset", tmp_path / "params/dataset")
    shutil.copy(ROOT / "params/config.yaml", tmp_path / "params/config.yaml")
    folder = tmp_path / "data/sample/cifar10" / BATCHES
    folder.mkdir(parents=True)
    for number in range(1, 6):
        (folder / f"data_batch_{number}").write_bytes(batch(seed=number))
    (folder / "test_batch").write_bytes(batch(seed=9))
    (folder / "batches.meta").write_bytes(pickles.dump_meta(NAMES, 60))
    pin(tmp_path, "sample_sha256", "sha256", folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pin(root: Path, key: str, kind: str, folder: Path) -> None:
    """Make the files of a folder this root's pinned ones."""
    path = root / "params/dataset/cifar10.yaml"
    params = yaml.safe_load(path.read_text())
    params[key] = {item.name: hashlib.new(kind, item.read_bytes()).hexdigest() for item in folder.iterdir()}
    path.write_text(yaml.safe_dump(params))


def sample(root: Path) -> Path:
    return root / "data/sample/cifar10" / BATCHES


def publish(root: Path, *names: str) -> Path:
    """The sample's files as a publisher's folder (re-made, not pinned)."""
    folder = root / "data/publisher/cifar10" / BATCHES
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(batch(seed=50 + number))
    (folder / "batches.meta").write_bytes(pickles.dump_meta([*NAMES[:2], "drei"], 60))
    return folder


def fails(capsys, *arguments: str) -> str:
    return photographs.fails(cifar10, "cifar10", capsys, *arguments)


def test_the_sample_becomes_three_checked_splits(project):
    cifar10.main([])
    about = artifacts.verify_manifest("runs/prepare/cifar10/manifest.json")
    assert about["counts"] == {"train": 240, "val": 60, "test": 60}
    assert (about["files"], about["source"], about["classes"]) == ("embedded sample", "sample", NAMES)
    raw = pickles.loads((sample(project) / "data_batch_5").read_bytes(), "")
    x, y = artifacts.read_npz("runs/prepare/cifar10/val.npz", "x", "y")
    assert numpy.array_equal(x.reshape(60, -1), raw["data"])
    assert y.tolist() == raw["labels"]
    assert data.load("cifar10", "train").x.shape == (240, 3, 32, 32)


def test_the_same_bytes_again(project):
    cifar10.main([])
    first = {item.name: item.read_bytes() for item in Path("runs/prepare/cifar10").iterdir()}
    cifar10.main([])
    assert {item.name: item.read_bytes() for item in Path("runs/prepare/cifar10").iterdir()} == first


def test_one_batch_without_test_is_divided_and_said(project, capsys):
    publish(project, "data_batch_1")
    cifar10.main(["source=publisher"])
    about = artifacts.read_json("runs/prepare/cifar10/manifest.json")
    assert about["counts"] == {"test": 12, "val": 5, "train": 43}
    assert (about["files"], about["source"]) == ("re-made", "publisher")
    assert "no test_batch" in about["split"]
    assert "re-made" in capsys.readouterr().out
    parts = [artifacts.read_npz(f"runs/prepare/cifar10/{name}.npz", "x")[0] for name in ("train", "val", "test")]
    rows = {row.tobytes() for part in parts for row in part}
    assert len(rows) == 60  # disjoint, nothing lost


def test_official_files_are_recognised_by_md5(project):
    pin(project, "official_md5", "md5", publish(project, "data_batch_1", "data_batch_3", "test_batch"))
    cifar10.main(["source=publisher"])
    assert artifacts.read_json("runs/prepare/cifar10/manifest.json")["files"] == "official"


def test_an_altered_file_among_official_ones_is_refused(project, capsys):
    folder = publish(project, "data_batch_1", "data_batch_2")
    pin(project, "official_md5", "md5", folder)
    raw = bytearray((folder / "data_batch_2").read_bytes())
    raw[5000] ^= 1
    (folder / "data_batch_2").write_bytes(raw)
    assert "data_batch_2" in fails(capsys, "source=publisher")


def test_an_altered_sample_is_refused(project, capsys):
    for number in range(1, 6):
        (sample(project) / f"data_batch_{number}").write_bytes(batch(seed=70 + number))
    (sample(project) / "test_batch").write_bytes(batch(seed=80))
    (sample(project) / "batches.meta").write_bytes(pickles.dump_meta(["a", "b", "c"], 60))
    assert "samples" in fails(capsys)


def test_the_sample_is_not_taken_for_the_publishers(project, capsys):
    shutil.copytree(sample(project).parent, project / "data/publisher/cifar10")
    assert "embedded sample" in fails(capsys, "source=publisher")


class Payload:
    """What a hostile file would carry."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_hostile_pickle_runs_nothing(project, capsys):
    folder = publish(project, "data_batch_1")
    for content in (pickle.dumps(Payload(), 2), pickle.dumps({b"data": Payload(), b"labels": []}, 4)):
        (folder / "data_batch_1").write_bytes(content)
        assert "data_batch_1" in fails(capsys, "source=publisher")
        assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(numpy.array([Payload()], dtype=object), 2),  # objects inside an array
        pickle.dumps(numpy.zeros((2, 3)), 2),  # not uint8
        b"\x80\x02cbuiltins\neval\nU\x031+1\x85R.",
        b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
        b"\x80\x02U\x01xQ.",  # a persistent reference
        # an array that claims a million million bytes
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85U\x01b\x87R.",
        b"\x80\x02T\xff\xff\xff\x7fabc.",
        b"",
        b"no pickle",
        b"\x80\x02K\x01.",
    ],
)
def test_strange_pickles_are_refused(content):
    with pytest.raises(StageError, match="some/file"):
        pickles.loads(content, "some/file")


def test_python_3_pickles_of_a_batch_are_read():
    content = pickle.dumps({b"labels": [1], b"data": numpy.full((1, 4), 7, numpy.uint8), b"filenames": [b"\xff"]}, 2)
    found = pickles.loads(content, "x")
    assert found["data"].tolist() == [[7, 7, 7, 7]]
    assert found["filenames"] == [b"\xff"]


def rewritten(**changes) -> bytes:
    found = pickles.loads(batch(), "x")
    return pickle.dumps({key.encode(): value for key, value in (found | changes).items()}, 2)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (batch()[:100_000], "cut short"),
        (batch()[:-1], "cut short"),
        (rewritten(labels=[0, 1, 3] * 20), "label 3 of image 2"),
        (rewritten(labels=[0, 1, -1] * 20), "label -1"),
        (rewritten(labels=[0, 1, 2.0] * 20), "label 2.0"),
        (rewritten(labels=[0, 1, True] * 20), "label True"),
        (rewritten(labels=[0, 1, 2] * 19), "57 labels for 60 images"),
        (rewritten(labels=None), "no labels"),
        (rewritten(filenames=[b"x"]), "filenames"),
        (rewritten(data=numpy.zeros((60, 3071), numpy.uint8)), "3071"),
        (rewritten(data=b"raw"), "bytes"),
        (rewritten(labels=[0, 1, 1] * 20), "class 2"),
    ],
)
def test_damaged_batches_are_told(project, capsys, content, told):
    (publish(project, "data_batch_1") / "data_batch_1").write_bytes(content)
    assert told in fails(capsys, "source=publisher")


def test_missing_files_and_folders_are_told(project, capsys):
    assert "publisher" in fails(capsys, "source=publisher")
    assert "source=web" in fails(capsys, "source=web")
    (sample(project) / "batches.meta").unlink()
    assert "batches.meta" in fails(capsys)
    for item in sample(project).glob("data_batch*"):
        item.unlink()
    (sample(project) / "batches.meta").write_bytes(pickles.dump_meta(NAMES, 60))
    assert "data_batch_1" in fails(capsys)


def test_limits_keep_the_balance_and_zero_is_refused(project, capsys):
    cifar10.main(["params.limit.train=31", "params.limit.test=6"])
    about = artifacts.read_json("runs/prepare/cifar10/manifest.json")
    assert about["counts"] == {"train": 31, "val": 60, "test": 6}
    assert numpy.bincount(artifacts.read_npz("runs/prepare/cifar10/test.npz", "y")[0]).tolist() == [2, 2, 2]
    shutil.rmtree("runs")
    assert "limit.val=0" in fails(capsys, "params.limit.val=0")
    assert "class" in fails(capsys, "params.limit.val=2")


def test_a_full_disk_leaves_no_manifest(project, capsys):
    Path("runs/prepare").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", "runs/prepare"]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        err = fails(capsys)
        assert re.search(r"runs/prepare/cifar10/.*npz.*space", err)
        assert not list(Path("runs/prepare/cifar10").glob(".*"))
    finally:
        subprocess.run(["umount", "runs/prepare"], check=True)


@pytest.mark.parametrize(("variant", "counts"), [("lossless-3000", (2160, 240, 600)), ("jpeg-decoded", (9000, 1000, 2000))])
def test_the_publishers_files(project, variant, counts):
    """Re-made copies of the real set: recognised as such, known first labels and pixels."""
    if not (PUBLISHER / variant).is_dir():
        pytest.skip("no publisher's files in ../shared/data/cifar10")
    Path("data/publisher").mkdir()
    Path("data/publisher/cifar10").symlink_to((PUBLISHER / variant).resolve())
    cifar10.main(["source=publisher"])
    about = artifacts.read_json("runs/prepare/cifar10/manifest.json")
    assert tuple(about["counts"][name] for name in ("train", "val", "test")) == counts
    assert about["files"] == "re-made"
    assert about["classes"][6] == "frog"
    assert numpy.allclose(about["mean"], [0.4914, 0.4822, 0.4465], atol=0.01)  # CIFAR-10's, as published
    assert numpy.allclose(about["std"], [0.2470, 0.2435, 0.2616], atol=0.01)
    raw = pickles.loads((PUBLISHER / variant / BATCHES / "data_batch_1").read_bytes(), "")
    assert raw["labels"][:10] == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
