"""The simulated network folder has what makes real ones hard: time, belief in what was true, locks that end at the host."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.network import network_folder, possible
from workflow.engine.lockfile import merge, split_entries

pytestmark = pytest.mark.skipif(not possible(), reason="needs root and /dev/fuse")
LATENCY, REMEMBERED = 0.02, 1.0


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two clients' views of one folder."""
    served, *views = (tmp_path / name for name in ("served", "one", "other"))
    for folder in (served, *views):
        folder.mkdir()
    with network_folder(served, views[0], LATENCY, REMEMBERED), network_folder(served, views[1], LATENCY, REMEMBERED):
        yield tuple(views)


def test_every_call_takes_its_time_and_what_is_written_is_read(hosts: tuple[Path, Path]) -> None:
    one, other = hosts
    start = time.monotonic()
    (one / "folder").mkdir()
    (one / "folder/file").write_bytes(bytes(range(256)) * 2000)
    assert time.monotonic() - start > 4 * LATENCY  # a name looked up, a folder, a file, writes
    assert (other / "folder/file").read_bytes() == bytes(range(256)) * 2000
    assert [path.name for path in (other / "folder").iterdir()] == ["file"]


def test_a_host_believes_for_a_while_that_a_file_is_absent(hosts: tuple[Path, Path]) -> None:
    one, other = hosts
    assert not (other / "file").exists()
    (one / "file").write_text("new")
    assert not (other / "file").exists()
    time.sleep(REMEMBERED)
    assert (other / "file").read_text() == "new"


def test_a_file_that_is_opened_is_the_servers(hosts: tuple[Path, Path]) -> None:
    one, other = hosts
    (one / "file").write_text("old")
    assert (other / "file").read_text() == "old"
    (one / "next").write_text("longer")
    (one / "next").replace(one / "file")
    assert (other / "file").read_text() == "longer"


def test_a_lock_of_the_kernel_ends_at_the_host_and_a_link_does_not(hosts: tuple[Path, Path]) -> None:
    one, other = hosts
    (one / "file").touch()
    with (one / "file").open("a") as mine, (other / "file").open("a") as theirs, (one / "file").open("a") as second:
        for handle in (mine, theirs):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not (other / "lock").exists()
    (one / "lock").hardlink_to(one / "file")
    with pytest.raises(FileExistsError):
        (other / "lock").hardlink_to(other / "file")
    assert (one / "file").stat().st_nlink == 2


def test_an_entry_is_not_lost_to_a_host_that_believes_there_is_no_lock_file(hosts: tuple[Path, Path]) -> None:
    one, other = hosts
    assert not (other / "dvc.lock").exists()
    merge(one / "dvc.lock", {"a": "  a:\n    cmd: a\n"}, {"a": 0, "b": 1})
    assert not (other / "dvc.lock").exists()
    merge(other / "dvc.lock", {"b": "  b:\n    cmd: b\n"}, {"a": 0, "b": 1})
    assert list(split_entries((one / "dvc.lock").read_text())) == ["a", "b"]
    assert [path.name for path in one.iterdir()] == ["dvc.lock"]
