"""Fixtures of the engine's tests: toy pipelines in the project's own shape."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.workflow.toy import executed, sh, write_toy


@pytest.fixture(scope="session")
def finished_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy pipeline that snakemake has run to its end, committed; never used directly by a test."""
    folder = write_toy(tmp_path_factory.mktemp("toy") / "repo")
    sh(folder, "snakemake --cores 2")
    sh(folder, "git add -A && git -c user.name=t -c user.email=t@t commit -qm ran")
    executed(folder)
    return folder


@pytest.fixture
def toy(finished_toy: Path, tmp_path: Path) -> Path:
    """A private copy of the finished toy pipeline."""
    return Path(shutil.copytree(finished_toy, tmp_path / "repo", symlinks=True))


@pytest.fixture
def fresh_toy(tmp_path: Path) -> Path:
    """A toy pipeline that has not run yet."""
    return write_toy(tmp_path / "repo")
