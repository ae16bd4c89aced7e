"""DVC's ways to put a cached result into the workspace: under each the engine keeps its promises."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.test_promises import kill_group, no_processes, replace, start, trace, wait_for
from tests.workflow.toy import clean, executed, sh, write_toy

pytestmark = pytest.mark.slow
RUN = "snakemake --cores 2"
OUTPUT = "runs/chex/train/0.json"
EDIT = ("params/chex.yaml", "lr: 2", "lr: 12")
MAKERS = ("mkfs.xfs", "mkfs.btrfs")


def small_toy(folder: Path, kind: str) -> Path:
    """A pipeline of one paper that has not run, whose results are of this kind of link."""
    write_toy(folder, seeds=(0,), arms=("l1",))
    shutil.rmtree(folder / "stages/papers/dcp")
    sh(folder, f"dvc config cache.type {kind} && git add -A && git -c user.name=t -c user.email=t@t commit -qm one")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every lock file and result."""
    files = [*folder.rglob("dvc.lock"), *folder.glob("runs/**/*.json"), folder / "reports/table.md"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if ".costs" not in str(path)}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """What copies leave after a run, and after a run with the edit."""
    folder = small_toy(tmp_path_factory.mktemp("copied") / "repo", "copy")
    left = []
    for edit in (None, EDIT):
        if edit:
            replace(folder, *edit)
        sh(folder, RUN)
        left.append(contents(folder))
    assert left[0] != left[1]
    return left


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on a file system whose files can share their blocks, in a file that is mounted."""
    folder = tmp_path_factory.mktemp("sharing")
    maker = next((name for name in MAKERS if shutil.which(name)), None)
    if maker is None:
        pytest.skip(f"needs {' or '.join(MAKERS)}")
    subprocess.run(["truncate", "-s", "400M", f"{folder}/image"], check=True)
    subprocess.run([maker, "-q", f"{folder}/image"], check=True)
    (folder / "mounted").mkdir()
    if subprocess.run(["mount", "-o", "loop", f"{folder}/image", f"{folder}/mounted"], check=False).returncode:
        pytest.skip("needs root: mounts a file system")
    yield folder / "mounted"
    subprocess.run(["umount", "--lazy", f"{folder}/mounted"], check=True)


def place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder where files can be shared in this way."""
    return request.getfixturevalue("sharing") if kind == "reflink" else tmp_path


def shared(kind: str, path: Path) -> bool:
    """Whether a result and its copy in the cache are one file, as hard and symbolic links have it."""
    return path.is_symlink() if kind == "symlink" else path.stat().st_nlink > 1


@pytest.mark.parametrize("kind", ["hardlink", "symlink", "reflink"])
def test_results_are_those_of_copies(
    kind: str, copied: list[dict[str, bytes]], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = small_toy(place(kind, request, tmp_path) / "repo", kind)
    sh(folder, RUN)
    assert contents(folder) == copied[0]
    assert shared(kind, folder / OUTPUT) == (kind != "reflink")
    assert clean(folder)
    _killed_after_an_edit(folder)
    sh(folder, RUN)
    assert contents(folder) == copied[1]
    assert clean(folder)
    replace(folder, EDIT[0], EDIT[2], EDIT[1])
    executed(folder)
    sh(folder, RUN)
    assert executed(folder) == []
    assert contents(folder) == copied[0]
    _written_in_place(folder, kind)
    assert contents(folder) == copied[0]
    assert clean(folder)


def _killed_after_an_edit(folder: Path) -> None:
    """Edit, run, and kill everything while a training runs, which has replaced a restored or linked result."""
    executed(folder)
    replace(folder, *EDIT)
    (folder / "wait").write_text("1")
    process = start(folder, RUN)
    wait_for(lambda: "train" in trace(folder))
    kill_group(process)
    wait_for(lambda: no_processes(folder))
    (folder / "wait").unlink()


def _written_in_place(folder: Path, kind: str) -> None:
    """Write into a result and run. What shares its file with the cache cannot be written but by root, who spoils the cache."""
    path = folder / OUTPUT
    writable = path.stat().st_mode & 0o222
    assert bool(writable) == (kind == "reflink")
    if not writable:
        path.chmod(0o644)  # what only root need not do
    path.write_text("0" * len(path.read_bytes()))
    if not writable:
        path.chmod(0o444)
    sh(folder, RUN)
    # The spoilt copy is found and the one stage is run again; where the cache is untouched, nothing is.
    assert executed(folder) == ([] if kind == "reflink" else ["train paper=chex seed=0"])


def test_a_kind_of_link_that_does_not_work_here_stops_the_run_before_anything_is_computed(tmp_path: Path) -> None:
    """A hard link to a cache on another file system."""
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    cache = subprocess.run(["mktemp", "-d", "-p", "/dev/shm"], capture_output=True, text=True, check=True).stdout.strip()
    try:
        folder = small_toy(tmp_path / "repo", "hardlink")
        sh(folder, f"mv .dvc/cache/* {cache} && dvc cache dir {cache}")
        done = sh(folder, RUN, check=False)
        assert done.returncode
        assert f"cache.type hardlink does not work between {cache}" in done.stdout + done.stderr
        assert executed(folder) == []
        sh(folder, "dvc config cache.type hardlink,copy && " + RUN)
        assert clean(folder)
    finally:
        shutil.rmtree(cache)
