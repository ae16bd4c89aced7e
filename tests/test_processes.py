"""Every stage of a paper, computed by two processes together and by one: `torchrun` starts them all alike."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_structure import RULES, all_tasks
from workflow import imports
from workflow.engine.graph import Task

pytestmark = pytest.mark.exhaustive
NOT_COMPUTED_TOGETHER = ("_audit", "_figures", "_summarise")
STAGES = [
    task.rule
    for task in RULES
    if task.file.startswith(("stages/papers/", "stages/compare/"))
    and not (imports.is_fingerprint(task) or task.rule.endswith(NOT_COMPUTED_TOGETHER))
]
LOSS = re.compile(r"\bloss[ =]+(-?[\d.]+)")
# Of the first epoch's loss. A net with dropout draws other masks; small differences grow from epoch to epoch.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def copy(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished pipeline, whose results may be written again."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("processes") / "repo", symlinks=True))


@pytest.fixture(scope="module")
def tasks(copy: Path) -> dict[str, Task]:
    """One resolved stage of every rule, as declared in the copy."""
    return {task.rule: task for task in all_tasks(copy)}


def computed(folder: Path, task: Task, processes: int) -> tuple[list[float], list[float]]:
    """(losses printed, numbers in the JSON files written) by a stage in so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, *task.cmd.split()[1:]],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = [file for out in task.outs for file in ([folder / out] if (folder / out).is_file() else (folder / out).rglob("*"))]
    written = sorted(file for file in files if file.suffix == ".json" and file.name != "manifest.json")
    return [float(found) for found in LOSS.findall(done.stdout)], [
        x for file in written for x in numbers(json.loads(file.read_text()))
    ]


def numbers(node: object) -> Iterator[float]:
    """All numbers of nested lists and dicts."""
    if isinstance(node, dict):
        node = [node[key] for key in sorted(node)]
    if isinstance(node, list):
        for item in node:
            yield from numbers(item)
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield node


@pytest.mark.parametrize("rule", STAGES)
def test_two_processes_compute_what_one_does(rule: str, copy: Path, tasks: dict[str, Task]) -> None:
    (one, figures), (two, other) = (computed(copy, tasks[rule], processes) for processes in (1, 2))
    assert len(one) == len(two)
    assert len(figures) == len(other)
    assert one[:1] == pytest.approx(two[:1], rel=TOLERANCE)
    if not one:  # nothing tells of its losses
        assert figures == pytest.approx(other, rel=0.1, abs=0.1)
