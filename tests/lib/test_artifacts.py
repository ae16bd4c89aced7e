"""Files: whole or absent, the same bytes for the same content, damage told in one line."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy
import pandas
import pytest
import torch

from stages.lib import artifacts, weights
from stages.lib.errors import StageError


def leftovers(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    artifacts.write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError), artifacts.atomic(path) as temporary:
        assert temporary.write_bytes(b"half") / 0
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["a.txt"]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "a.txt"
    artifacts.write_bytes(path, b"old" * 9000)
    with path.open("rb") as reader:
        artifacts.write_bytes(path, b"new")
        assert reader.read() == b"old" * 9000
    assert path.read_bytes() == b"new"


def test_a_full_disk_is_told_and_keeps_the_old_file(tmp_path):
    """On a real file system of 64 KiB where we may mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        path = small / "a.bin"
        artifacts.write_bytes(path, b"old")
        with pytest.raises(StageError, match="space"):
            artifacts.write_npz(path, x=numpy.zeros(100_000))
        assert path.read_bytes() == b"old"
        assert leftovers(small) == ["a.bin"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="file"):
        artifacts.write_bytes(tmp_path / "file/a.txt", b"x")


def test_a_folder_without_permission_is_told():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        try:
            if user == 0:  # who may write anywhere, so become nobody for the moment
                os.seteuid(65534)
            with pytest.raises(StageError, match="denied"):
                artifacts.write_bytes(Path(name) / "a.txt", b"x")
        finally:
            os.seteuid(user)


def test_json_is_sorted_exact_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"b": 0.1 + 0.2, "a": [1, None]})
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    assert artifacts.read_json(path) == {"b": 0.1 + 0.2, "a": [1, None]}
    for bad in (float("nan"), float("inf"), torch.zeros(1)):
        with pytest.raises(StageError):
            artifacts.write_json(path, {"b": bad})
    assert artifacts.read_json(path)["a"] == [1, None]


def test_csv_keeps_every_digit_from_frames_and_rows(tmp_path):
    rows = [{"arm": "dcp", "value": 0.1 + 0.2}, {"arm": "x,y", "value": 1e-17}]
    artifacts.write_csv(tmp_path / "a.csv", pandas.DataFrame(rows))
    artifacts.write_csv(tmp_path / "b.csv", rows)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert pandas.read_csv(tmp_path / "b.csv").to_dict("records") == rows


def test_npz_has_the_same_bytes_whatever_the_time_and_order(tmp_path, monkeypatch):
    x, y = numpy.arange(6, dtype=numpy.uint8).reshape(2, 3).T, numpy.array([1.5, -0.0])
    artifacts.write_npz(tmp_path / "a.npz", x=x, y=y)
    monkeypatch.setattr("time.time", lambda: 4e9)
    artifacts.write_npz(tmp_path / "b.npz", y=y, x=x)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = artifacts.read_npz(tmp_path / "a.npz", "x", "y")
    assert numpy.array_equal(found[0], x)
    assert numpy.signbit(found[1][1])


def test_npz_refuses_objects_both_ways(tmp_path):
    with pytest.raises(StageError):
        artifacts.write_npz(tmp_path / "a.npz", x=numpy.array([object()]))
    numpy.savez(tmp_path / "b.npz", x=numpy.array([{}], dtype=object))
    with pytest.raises(StageError):
        artifacts.read_npz(tmp_path / "b.npz", "x")


@pytest.mark.parametrize("keep", [0, 10, 200, 600])
def test_a_truncated_file_is_told(tmp_path, keep):
    artifacts.write_npz(tmp_path / "a.npz", x=numpy.arange(100))
    artifacts.save_tensors(tmp_path / "a.safetensors", {"w": torch.ones(200)}, {})
    artifacts.write_json(tmp_path / "a.json", list(range(400)))
    readers = {"npz": lambda path: artifacts.read_npz(path, "x"), "safetensors": artifacts.load_tensors}
    readers["json"] = artifacts.read_json
    for kind, reader in readers.items():
        path = tmp_path / f"a.{kind}"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(StageError, match=f"a.{kind}"):
            reader(path)
        path.unlink()
        with pytest.raises(StageError, match=f"a.{kind}"):
            reader(path)


def test_tensors_come_back_with_their_record_and_the_same_bytes(tmp_path):
    tensors = {"b": torch.randn(3, 4).T, "a": torch.arange(3), "n": torch.tensor(7)}
    artifacts.save_tensors(tmp_path / "a", tensors, {"widths": [1, 2], "kind": "x"})
    artifacts.save_tensors(tmp_path / "b", dict(reversed(tensors.items())), {"kind": "x", "widths": [1, 2]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found, record = artifacts.load_tensors(tmp_path / "a")
    assert record == {"widths": [1, 2], "kind": "x"}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_nan_weights_are_neither_written_nor_read(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(StageError, match="w"):
        artifacts.save_tensors(tmp_path / "a", {"w": torch.tensor([1.0, float("nan")])}, {})
    assert leftovers(tmp_path) == []
    save_file({"w": torch.tensor([float("inf")])}, tmp_path / "b", metadata={"architecture": "{}"})
    with pytest.raises(StageError, match="w"):
        artifacts.load_tensors(tmp_path / "b")


def test_models_are_rebuilt_from_their_record(tmp_path):
    from stages.lib.models import preresnet

    model = preresnet([1, 1], [4, 8], classes=3, in_channels=1).eval()
    weights.save_model(tmp_path / "m", model)
    again = weights.load_model(tmp_path / "m")
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(model(x), again(x))
    tensors, record = artifacts.load_tensors(tmp_path / "m")
    tensors.pop(next(iter(tensors)))
    artifacts.save_tensors(tmp_path / "m", tensors, record)
    with pytest.raises(StageError):
        weights.load_model(tmp_path / "m")


def test_the_manifest_finds_an_altered_or_missing_output(tmp_path):
    out = tmp_path / "out.bin"
    out.write_bytes(b"content")
    artifacts.write_manifest(tmp_path / "manifest.json", outputs=[out], inputs=[], config={"seed": 1}, dataset="x")
    manifest = artifacts.verify_manifest(tmp_path / "manifest.json")
    assert (manifest["dataset"], manifest["config"], list(manifest["outputs"])) == ("x", {"seed": 1}, ["out.bin"])
    out.write_bytes(b"Content")
    with pytest.raises(StageError, match=r"out\.bin"):
        artifacts.verify_manifest(tmp_path / "manifest.json")
    out.unlink()
    with pytest.raises(StageError, match=r"out\.bin"):
        artifacts.verify_manifest(tmp_path / "manifest.json")


def test_the_manifest_holds_nothing_of_the_machine(tmp_path, monkeypatch):
    """Two folders, two times: the same text, without absolute paths."""
    texts = []
    for name in ("one", "two"):
        (tmp_path / name / "runs").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        for file in ("in.bin", "out.bin"):
            (tmp_path / name / "runs" / file).write_bytes(b"x")
        artifacts.write_manifest("runs/manifest.json", outputs=["runs/out.bin"], inputs=[Path("runs/in.bin").resolve()])
        texts.append(Path("runs/manifest.json").read_text())
    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]
    assert list(json.loads(texts[0])["inputs"]) == ["runs/in.bin"]


def test_npz_times_are_fixed(tmp_path):
    artifacts.write_npz(tmp_path / "a.npz", x=numpy.zeros(1))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert [item.date_time for item in archive.infolist()] == [artifacts.ZIP_EPOCH]
