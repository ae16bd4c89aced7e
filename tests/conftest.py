"""What several test modules share."""

from pathlib import Path

import pytest

from tests.copies import copy_repository, run_snakemake, smoke_settings


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole pipeline at the smoke scale with one seed, after one run from nothing. Not to be changed."""
    folder = copy_repository(tmp_path_factory.mktemp("pipeline") / "repo")
    smoke_settings(folder)
    assert len(run_snakemake(folder)) > 20
    return folder


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a module's tests, and all tests of the finished pipeline, in one worker, so that no fixture is made twice."""
    for item in items:
        group = "pipeline" if "finished" in item.fixturenames else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    # What takes longest starts first.
    items.sort(key=lambda item: "finished" not in item.fixturenames)
