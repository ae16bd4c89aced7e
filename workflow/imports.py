"""Which project modules a stage script imports, transitively; keeps the `deps:` of every dvc.yaml true to it.

python -m workflow.imports            list what is missing or too much; exit code 1 if anything is
python -m workflow.imports --write    put it right
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

from workflow.engine.graph import Task

PACKAGES = ("stages", "workflow")
SCRIPT = re.compile(r"\bpython3? (\S+\.py)\b")
MODULE = re.compile(r"\bpython3? -m ([\w.]+)")


def module_file(root: Path, module: str) -> Path | None:
    """File of a project module, or None if it is not one."""
    base = root / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if module.split(".")[0] in PACKAGES and path.exists():
            return path
    return None


@cache
def direct_imports(root: Path, file: Path) -> frozenset[Path]:
    """Project files that one file imports, wherever in it the import stands."""
    package = file.relative_to(root).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (start, node.module or "") if part)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        parts = name.split(".")
        # Importing a.b.c runs a/__init__ and a/b/__init__ as well; empty ones cannot change a result.
        for end in range(1, len(parts) + 1):
            path = module_file(root, ".".join(parts[:end]))
            if path is not None and (path.name != "__init__.py" or path.read_text(encoding="utf-8").strip()):
                found.add(path)
    return frozenset(found - {file})


def needed(root: Path, script: Path) -> set[str]:
    """The script and all project files it imports, transitively, relative to `root`."""
    seen: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += direct_imports(root, file)
    return {path.relative_to(root).as_posix() for path in seen}


def script_of(root: Path, cmd: str) -> Path | None:
    """The project script that a stage's command runs."""
    match = SCRIPT.search(cmd)
    if match:
        return root / match[1]
    match = MODULE.search(cmd)
    return module_file(root, match[1]) if match else None


def difference(root: Path, task: Task) -> tuple[set[str], set[str]]:
    """Code files that the task's deps lack, and those that they hold needlessly."""
    script = script_of(root, task.cmd)
    wanted = needed(root, script) if script else set()
    declared = {dep for dep in task.deps if dep.endswith(".py")}
    return wanted - declared, declared - wanted


def rewrite(text: str, stage: str, files: set[str]) -> str:
    """Replace the code files among a stage's deps in the text of a dvc.yaml (block style)."""
    pattern = re.compile(rf"(^  {re.escape(stage)}:\n(?:    .*\n|\n)*?    deps:\n)((?:      - .*\n)+)", re.MULTILINE)
    match = pattern.search(text)
    if match is None:
        raise ValueError(f"stage {stage} has no deps: in block style")
    others = [line for line in match[2].splitlines(keepends=True) if not line.rstrip().endswith(".py")]
    lines = [f"      - {name}\n" for name in sorted(files)]
    return text[: match.start(2)] + "".join(lines + others) + text[match.end(2) :]


def main() -> int:
    """Check, or with --write mend, the deps of every stage."""
    from workflow.engine.graph import make_task
    from workflow.engine.repository import open_repo

    repo = open_repo()
    root, resolvers = Path(repo.root_dir), {}
    tasks = [make_task(repo, stage, resolvers) for stage in repo.index.stages if hasattr(stage, "name") and stage.cmd]
    wrong = 0
    for task in {task.rule: task for task in tasks}.values():
        missing, surplus = difference(root, task)
        if not missing and not surplus:
            continue
        wrong += 1
        print(f"{task.address}: missing {sorted(missing)}, needless {sorted(surplus)}")
        if "--write" in sys.argv:
            path = root / task.file
            wanted = needed(root, script_of(root, task.cmd))
            path.write_text(rewrite(path.read_text(), task.name.partition("@")[0], wanted))
    return 1 if wrong and "--write" not in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
