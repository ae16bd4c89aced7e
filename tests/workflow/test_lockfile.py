"""Splicing entries into dvc.lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.engine.lockfile import HEADER, splice, split_entries, unshared, write_atomically

A = "  a@1:\n    cmd: python a.py\n    outs:\n    - path: a\n"
B = "  b:\n    cmd: python b.py 'x:\n      y'\n"
B2 = "  b:\n    cmd: python b.py 2\n"
ORDER = {"a@1": 0, "b": 1}


def test_entries_are_split_at_their_names_only() -> None:
    assert split_entries(HEADER + A + B) == {"a@1": A, "b": B}
    assert split_entries("") == {}


@pytest.mark.parametrize("text", ["stages:\n", "schema: '1.0'\nstages:\n" + A, HEADER + "x: 1\n", HEADER + "    deep: 1\n"])
def test_foreign_layout_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="as DVC writes it"):
        split_entries(text)


def test_new_entries_are_put_in_order() -> None:
    assert splice(HEADER + B, {"a@1": A}, ORDER) == HEADER + A + B
    assert splice("", {"b": B, "a@1": A}, ORDER) == HEADER + A + B


def test_replacement_stays_in_place() -> None:
    """As DVC does: otherwise a clone on another file system would see a changed lock file."""
    assert splice(HEADER + B + A, {"b": B2}, ORDER) == HEADER + B2 + A


def test_shared_containers_are_written_out() -> None:
    scales = ["small"]
    again = unshared({"a": {"x": scales, "y": scales}, "b": [scales]})
    assert again == {"a": {"x": scales, "y": scales}, "b": [scales]}
    assert again["a"]["x"] is not again["a"]["y"]


def test_undeclared_entries_are_kept_at_the_end() -> None:
    old = "  gone@7:\n    cmd: x\n"
    assert splice(HEADER + old + B, {"a@1": A}, ORDER) == HEADER + A + B + old


def test_write_is_atomic_and_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dvc.lock"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
