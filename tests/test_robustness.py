"""Every stage script against bad input and a full disk: one line, exit code 1, nothing half-written."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch  # noqa: F401  imported here once, so that each forked script starts at once

from stages.lib.stage import Stage
from tests.test_structure import RULES, all_tasks, load_stage
from tests.workflow.toy import ROOT
from workflow import imports
from workflow.engine.graph import Task

pytestmark = pytest.mark.slow
SCRIPTS = [task.rule for task in RULES if not imports.is_fingerprint(task)]
DISK = 64  # bytes that a file may have on the full disk; every output has more


@pytest.fixture(scope="module")
def broken(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished pipeline that may be damaged, if it is mended again."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("broken") / "repo", symlinks=True))


@pytest.fixture(scope="module")
def tasks(broken: Path) -> dict[str, Task]:
    """One resolved stage of every rule, as declared in the finished pipeline."""
    return {task.rule: task for task in all_tasks(broken)}


def script(folder: Path, task: Task) -> Stage:
    """A task's stage, of this repository and not of the copy: a script runs with the modules beside it only."""
    return load_stage(ROOT / imports.script_of(folder, task.cmd).relative_to(folder))


def run(folder: Path, task: Task, extra: list[str], before: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Exit code and error text of a stage's script in a forked process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.close(read)
            os.dup2(write, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115  not pytest's
            os.chdir(folder)
            before()
            main = script(folder, task)
            words = [word for word in task.cmd.split() if "=" in word]
            main([*words, *extra])
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as stream:
        text = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def outputs(folder: Path, task: Task) -> dict[str, bytes]:
    """Every file in or beside the outputs of a task."""
    found: dict[str, bytes] = {}
    for out in task.outs:
        path = folder / out
        inside = path.rglob("*") if path.is_dir() else path.parent.glob(f"*{path.name}*")
        found |= {str(file): file.read_bytes() for file in inside if file.is_file()}
    return found


def input_file(folder: Path, task: Task) -> Path | None:
    """The first file that the task reads and another stage or the user made."""
    for dep in task.deps:
        path = folder / dep
        if dep.startswith("runs/code/") or dep.endswith(("costs.csv", "templates")):
            continue
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        if files:
            return next((file for file in files if file.suffix in (".safetensors", ".json", ".npz")), files[0])
    return None


def refuses(folder: Path, task: Task, extra: list[str] | None = None, before: Callable[[], None] = lambda: None) -> str:
    """Assert the contract of a failing stage; returns its line."""
    kept = outputs(folder, task)
    code, text = run(folder, task, extra or [], before)
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert code == 1, text
    assert len(lines) == 1, text
    assert "Traceback" not in text
    # As before or gone (a stage may withdraw its manifest first), but nothing new and nothing altered.
    assert outputs(folder, task).items() <= kept.items()
    return lines[0]


by_rule = pytest.mark.parametrize("rule", SCRIPTS)


@by_rule
def test_unknown_key(rule: str, broken: Path, tasks: dict[str, Task]) -> None:
    assert "nonsense" in refuses(broken, tasks[rule], ["nonsense=1"])


@by_rule
def test_wrong_type(rule: str, broken: Path, tasks: dict[str, Task]) -> None:
    schema = script(broken, tasks[rule]).schema.__annotations__
    numbers = [name for name, kind in schema.items() if kind in ("int", int) and name != "seed"]
    if not numbers:
        pytest.skip("it has no number at its top level")
    assert numbers[0] in refuses(broken, tasks[rule], [f"{numbers[0]}=many"])


@by_rule
def test_missing_input(rule: str, broken: Path, tasks: dict[str, Task], tmp_path: Path) -> None:
    file = input_file(broken, tasks[rule])
    if file is None:
        pytest.skip("it reads parameters only")
    shutil.move(file, tmp_path / "away")
    try:
        refuses(broken, tasks[rule])
    finally:
        shutil.move(tmp_path / "away", file)


@by_rule
def test_truncated_input(rule: str, broken: Path, tasks: dict[str, Task]) -> None:
    file = input_file(broken, tasks[rule])
    if file is None:
        pytest.skip("it reads parameters only")
    content = file.read_bytes()
    file.unlink()  # it may be a link to DVC's cache
    file.write_bytes(content[: len(content) // 2])
    try:
        refuses(broken, tasks[rule])
    finally:
        file.write_bytes(content)


@by_rule
def test_full_disk(rule: str, broken: Path, tasks: dict[str, Task]) -> None:
    refuses(broken, tasks[rule], before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (DISK, DISK)))
