"""What all papers have alike, and what every declared stage owes the engines."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.report.side_by_side import PROCESSES
from tests.workflow.toy import ROOT
from workflow import imports
from workflow.engine.declarations import Declarations
from workflow.engine.graph import Task, make_task
from workflow.engine.repository import open_repo


def all_tasks(folder: Path = ROOT) -> list[Task]:
    """Every resolved stage of the repository, or of a copy; read without the lock files, which take longer than the rest."""
    repo, resolvers = open_repo(folder), {}
    declarations = Declarations(repo)
    files = ["dvc.yaml", *(str(path.relative_to(folder)) for path in sorted((folder / "stages").rglob("dvc.yaml")))]
    return [make_task(repo, stage, resolvers) for file in files for stage in declarations.stages(file)]


TASKS = all_tasks()
RULES = list({task.rule: task for task in TASKS}.values())
SCRIPTS = [task for task in TASKS if not imports.is_fingerprint(task)]
PAPERS = sorted(path.parent.name for path in ROOT.glob("stages/papers/*/dvc.yaml"))
by_rule = pytest.mark.parametrize("task", RULES, ids=lambda task: task.rule)
by_script = pytest.mark.parametrize("task", [task for task in RULES if task in SCRIPTS], ids=lambda task: task.rule)
by_paper = pytest.mark.parametrize("paper", PAPERS)


@by_rule
def test_deps_are_the_script_and_all_it_imports(task: Task) -> None:
    missing, surplus = imports.difference(ROOT, task)
    assert not missing, f"run `python -m workflow.imports --write`: {missing}"
    assert not surplus, f"these would rerun the stage needlessly: {surplus}"


def test_no_stage_imports_by_name() -> None:
    """A module named by a string is invisible to the test above, and to DVC."""
    for file in (ROOT / "stages").rglob("*.py"):
        assert not re.search(r"\bimportlib\b|__import__", file.read_text()), file


def load_stage(script: Path) -> Any:
    """The `main` of a stage script, without running it."""
    spec = importlib.util.spec_from_file_location(f"script_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their annotations up there
    spec.loader.exec_module(module)
    return module.main


def test_every_script_has_one_fingerprint() -> None:
    made = [out for task in RULES if imports.is_fingerprint(task) for out in task.outs]
    assert len(set(made)) == len(made)
    assert {dep for task in SCRIPTS for dep in task.deps if dep.startswith("runs/code/")} == set(made)


@pytest.mark.parametrize("task", SCRIPTS, ids=lambda task: task.address)
def test_params_are_the_sections_that_the_script_reads(task: Task) -> None:
    script = imports.script_of(ROOT, task.cmd)
    main = load_stage(script)
    keys = {item.name: item.default for item in dataclasses.fields(main.schema) if isinstance(item.default, str)}
    keys |= dict(word.split("=", 1) for word in task.cmd.split() if "=" in word)
    wanted: dict[str, set[str]] = {}
    for file, section in main.reads:
        wanted.setdefault(file.format(**keys), set()).add((section or "").format(**keys))
    declared = {file: set(sections) or {""} for file, sections in task.params.items()}
    assert declared == wanted


def composed_files(script: Path, arguments: list[str]) -> set[str]:
    """YAML files that are opened while a script's configuration is composed, by Hydra or without it."""
    from unittest import mock

    from omegaconf import OmegaConf

    opened: set[str] = set()

    def noting(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def noted(source: Any) -> Any:
            opened.add(str(source.name if hasattr(source, "read") else source))
            return read(source)

        return noted

    with (
        mock.patch.object(OmegaConf, "load", staticmethod(noting(OmegaConf.load))),
        mock.patch.object(Path, "read_bytes", noting(Path.read_bytes)),
    ):
        load_stage(script).configure(arguments)
    mine = (Path(name).resolve() for name in opened if name.endswith(".yaml"))
    return {str(path.relative_to(ROOT)) for path in mine if path.is_relative_to(ROOT / "params")}


@by_script
def test_every_params_file_that_is_composed_is_tracked(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    script = imports.script_of(ROOT, task.cmd)
    opened = composed_files(script, [word for word in task.cmd.split() if "=" in word])
    # config.yaml is composed always; the globals that a script takes from it are checked above
    assert "params/config.yaml" in opened
    assert opened - {"params/config.yaml"} <= set(task.params)


def test_dvc_accepts_the_graph() -> None:
    """No two stages write the same place, and none depends on itself."""
    open_repo(ROOT).index.check_graph()


@pytest.mark.parametrize("path", sorted(ROOT.glob("stages/**/dvc.yaml")), ids=lambda path: path.parent.name)
def test_outputs_hold_every_key_of_the_matrix(path: Path) -> None:
    """The keys are Snakemake's wildcards: two items must not share an output."""
    for name, declared in yaml.safe_load(path.read_text())["stages"].items():
        outs = [out for kind in ("outs", "metrics", "plots") for out in declared.get(kind, [])]
        for out in (item if isinstance(item, str) else next(iter(item)) for item in outs):
            for key in declared.get("matrix", {}):
                assert f"${{item.{key}}}" in out, f"{name}: {out}"


@by_script
def test_stage_declares_its_needs(task: Task) -> None:
    assert {"threads", "mem_mb", "runtime"} <= set(task.meta)
    computing = yaml.safe_load((ROOT / "params/config.yaml").read_text())["threads"]
    if "threads" in task.params.get("params/config.yaml", []):
        assert task.meta["threads"] == computing
    else:
        assert task.meta["threads"] == (PROCESSES if task.address == "dvc.yaml:report" else 1)


@by_paper
def test_paper_has_what_all_papers_have(paper: str) -> None:
    params = ROOT / "params" / paper
    assert {path.stem for path in params.glob("*.yaml")} >= {"claim", "smoke", "small", "paper"}
    names = {task.name.partition("@")[0] for task in TASKS if task.file == f"stages/papers/{paper}/dvc.yaml"}
    assert {"summarise", "audit"} <= names
    assert (ROOT / "stages/papers" / paper / "shakedown.py").exists()
    assert list((ROOT / "tests/papers").glob(f"test_{paper.replace('-', '_')}*.py"))
    assert len((ROOT / "stages/papers" / paper / "__init__.py").read_text().splitlines()) >= 3


@by_paper
def test_papers_do_not_import_each_other(paper: str) -> None:
    for file in (ROOT / "stages/papers" / paper).rglob("*.py"):
        others = re.findall(r"stages\.papers\.(\w+)", file.read_text())
        assert set(others) <= {paper.replace("-", "_"), paper}, file


def test_lib_imports_no_stage_and_workflow_no_learning() -> None:
    for file in (ROOT / "stages/lib").rglob("*.py"):
        assert not re.search(r"stages\.(prepare|papers|report|train)\b", file.read_text()), file
    for file in (ROOT / "workflow").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (torch|stages)\b", file.read_text(), re.MULTILINE), file
