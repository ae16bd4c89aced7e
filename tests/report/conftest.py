"""Projects with made-up metrics, and the two stages run on them in this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.report import report, summarise
from tests.report import synthetic


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The working folder, changed for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def make_report(root: Path, papers: tuple[str, ...] = ("alpha",), scale: str = "small") -> None:
    """Summarise these papers and write the report below `root`."""
    with inside(root):
        for paper in papers:
            summarise.main([f"paper={paper}", f"scale={scale}"])
        report.main([])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project with one paper; the working folder for the test."""
    monkeypatch.chdir(tmp_path)
    return synthetic.build(tmp_path)


@pytest.fixture
def fails(capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Runs a stage that must fail with exit status 1 and one line; returns that line."""

    def run(stage: Callable, *arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            stage(list(arguments))
        lines = capsys.readouterr().err.strip().splitlines()
        assert stopped.value.code == 1
        assert len(lines) == 1, lines
        assert "Traceback" not in lines[0]
        return lines[0]

    return run


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two papers, costs for one of them, and a finished report. Not to be changed."""
    root = synthetic.build(tmp_path_factory.mktemp("reported"), papers=("alpha", "beta"))
    (root / "reports").mkdir()
    (root / "reports/costs.csv").write_text("paper,scale,core_seconds\nalpha,small,151.5\nalpha,medium,\n")
    make_report(root, ("alpha", "beta"))
    return root
