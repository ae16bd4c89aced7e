"""The engine's work grows with the number of stages, no faster: counted in calls of functions, so that no timer decides."""

from __future__ import annotations

import cProfile
import pstats
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.workflow.generated import ARMS, finish, names, write_pipeline
from tests.workflow.toy import clean, sh
from workflow.engine.plan import Plan, make_plan
from workflow.engine.repository import locked, open_repo
from workflow.engine.rules import Pipeline

SEEDS = 4
PAPERS = (2, 4, 8)  # 76, 150 and 298 stages


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, int]:
    """Pipelines that never ran, and their numbers of stages."""
    made = {tmp_path_factory.mktemp("generated") / str(papers): papers for papers in PAPERS}
    return {folder: write_pipeline(folder, papers, SEEDS) for folder, papers in made.items()}


@pytest.fixture(scope="module", params=["run", "ok"])
def sizes(request: pytest.FixtureRequest, folders: dict[Path, int]) -> dict[Path, int]:
    """The same pipelines before they ever ran, then with all results."""
    for folder, papers in zip(folders, PAPERS):
        if request.param == "ok":
            finish(folder, papers, SEEDS)
        # This also lets DVC note the hashes of files that it sees for the first time, as a run does.
        assert Counter(d.state for d in planned(folder).decisions.values()) == {request.param: folders[folder]}
    return folders


def planned(folder: Path) -> Plan:
    """What `snakemake -n` plans there."""
    repo = open_repo(folder)
    return locked(repo, lambda: make_plan(repo))


def rules(folder: Path) -> Pipeline:
    """What the Snakefile asks for: targets, and the inputs of every stage."""
    pipeline = Pipeline(main=True, executing=False, local=True)
    for rule in pipeline.rules:
        function = rule.inputs(str)
        for decision in rule.members:
            function(decision.task.keys)
    for file in pipeline.papers().values():
        pipeline.targets(file=file)
    return pipeline


def calls(step: Callable[[Path], object], folder: Path) -> np.ndarray:
    """Calls of Python and built-in functions in one step: all, and those that the engine itself makes."""
    profile = cProfile.Profile()
    profile.runcall(step, folder)
    stats = pstats.Stats(profile)
    called = (item for *_, callers in stats.stats.values() for item in callers.items())
    own = sum(counts[1] for (file, *_), counts in called if Path(file).parent.name == "engine")
    return np.array([stats.total_calls, own])


def growth(step: Callable[[Path], object], sizes: dict[Path, int], monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Calls for one more stage between the two larger pipelines, as multiples of those between the two smaller."""
    counts = []
    for folder in (next(iter(sizes)), *sizes):  # the first time pays for what is paid once a process
        monkeypatch.chdir(folder)
        counts.append(calls(step, folder))
    (a, b, c), (small, middle, large) = counts[1:], sizes.values()
    return (c - b) / (large - middle) / ((b - a) / (middle - small))


@pytest.mark.parametrize("step", [planned, rules])
def test_work_for_one_more_stage_does_not_grow(
    step: Callable[[Path], object], sizes: dict[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    every, own = growth(step, sizes, monkeypatch)
    assert every <= 1.1  # DVC's work included
    assert own <= 1.02


@pytest.mark.slow
def test_generated_results_are_those_of_a_run(tmp_path: Path) -> None:
    ran, made = tmp_path / "ran", tmp_path / "made"
    for folder in (ran, made):
        write_pipeline(folder, 2, seeds=2)
    sh(ran, "snakemake --cores 2")
    finish(made, 2, seeds=2)
    for lock in sorted(ran.rglob("dvc.lock")):
        assert yaml.safe_load((made / lock.relative_to(ran)).read_text()) == yaml.safe_load(lock.read_text())
    assert clean(made)


@pytest.mark.slow
def test_an_edit_plans_its_dependents_only(tmp_path: Path) -> None:
    stages = write_pipeline(tmp_path, 3)
    finish(tmp_path, 3)
    assert clean(tmp_path)
    assert "Nothing to be done" in sh(tmp_path, "snakemake -n").stdout
    paper = names(3)[1]
    path = tmp_path / f"params/{paper}/small.yaml"
    path.write_text(path.read_text().replace("prune:\n  epochs: 2", "prune:\n  epochs: 3"))
    stale = [d.task.rule for d in planned(tmp_path).decisions.values() if d.state != "ok"]
    each = (stages - 2) // 3 // 9 * 3
    assert Counter(stale) == {f"{paper}_prune": each, f"{paper}_evaluate": each, f"{paper}_gather": 1, "report": 1}
    assert each % len(ARMS) == 0


def test_a_plan_leaves_no_listings_behind(sizes: dict[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC looks through all of them for every next folder, which calls of functions do not show at these sizes."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(MemoryFileSystem, "store", {})
    planned(next(iter(sizes)))
    assert not MemoryFileSystem.store
