"""What several test modules share."""

import shutil
from pathlib import Path

import pytest

from tests.copies import copy_repository, only, run_snakemake, smoke_settings

WHOLE = ("test_pipeline.py", "test_robustness.py", "test_processes.py")  # modules that use the finished pipeline
# Modules that take minutes without it
LONG = ("test_promises.py", "test_faults.py", "test_cache_types.py", "test_hosts.py", "test_scale.py")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole pipeline at the smoke scale with one seed, after one run from nothing. Not to be changed."""
    folder = copy_repository(tmp_path_factory.mktemp("pipeline") / "repo", samples=False)
    smoke_settings(folder)
    assert len(run_snakemake(folder)) > 20
    return folder


@pytest.fixture(scope="session")
def one_paper(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished pipeline with one paper, dcp, and the comparison. Not to be changed."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("one_paper") / "repo", symlinks=True))
    only(folder, "dcp")
    assert run_snakemake(folder) == {"dvc.yaml:report"}
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest starts first, so that no worker is left alone with it at the end."""
    first = {**dict.fromkeys(WHOLE, 0), **{name: place for place, name in enumerate(LONG, 1)}}
    items.sort(key=lambda item: first.get(item.path.name, len(first)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep a module's tests, and all tests of the finished pipeline, in one worker, so that no fixture is made twice.

    pytest-xdist has groups for this (--dist loadgroup), which pytest 9.2 does not see.
    """
    from xdist.scheduler import LoadFileScheduling

    class OneWorkerForTheWhole(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = super()._split_scope(nodeid)
            return "pipeline" if Path(path).name in WHOLE else path

    return OneWorkerForTheWhole(config, log)
