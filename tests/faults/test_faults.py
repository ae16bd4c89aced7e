"""After each fault the next run ends in the undisturbed bytes or says what to do; nothing committed is lost or wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.faults import FAULTS, KILLS, MOMENTS, killed
from tests.faults.play import Fault, play, prepare
from tests.workflow.toy import clean, sh
from workflow.engine.declarations import Declarations
from workflow.engine.job import Job
from workflow.engine.repository import open_repo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A toy pipeline that has not run, and a finished one. Not to be changed."""
    return prepare(tmp_path_factory.mktemp("faults"))


def played(fault: Fault, toys: tuple[Path, Path], folder: Path) -> None:
    if not fault.possible:
        pytest.skip("needs root and /dev/fuse")
    play(fault, Path(shutil.copytree(toys[fault.finished], folder / "repo", symlinks=True)), toys[True])


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, toys: tuple[Path, Path], tmp_path: Path) -> None:
    played(FAULTS[name], toys, tmp_path)


def test_a_corrupted_list_of_a_folders_files_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC takes a folder for changed, and keeps the bad list when it commits the same folder anew."""
    cmd = "mkdir -p out && echo 1 > out/x"
    (tmp_path / "dep").write_text("d")
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  one:\n    cmd: {cmd}\n    deps: [dep]\n    outs: [out]\n")
    sh(tmp_path, "git init -q && dvc init -q && dvc repro -q")
    (listing,) = (tmp_path / ".dvc/cache/files").rglob("*.dir")
    good = listing.read_bytes()
    listing.chmod(0o644)
    listing.write_text("garbage")
    listing.chmod(0o444)
    shutil.rmtree(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    planned = {"cmd": cmd, "outs": ["out"], "expected": {}, "params": {}}
    job = Job(Declarations(open_repo()), "dvc.yaml:one", planned, {})
    assert not job.begin()
    sh(tmp_path, cmd)
    job.finish(0, 0.0)
    assert listing.read_bytes() == good
    assert clean(tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", KILLS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill(moment: str, seed: int, toys: tuple[Path, Path], tmp_path: Path) -> None:
    played(killed(moment, seed), toys, tmp_path)
