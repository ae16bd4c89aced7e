"""Hash of a stage script and of all project modules that it imports, transitively, in one small file.

    python workflow/fingerprint.py stages/papers/dcp/train.py runs/code/papers/dcp/train.json

A stage depends on this file instead of some forty modules: DVC rewrites a whole dvc.lock for every stage it records,
and with all modules in every entry that takes it longer than most stages run.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from functools import cache
from pathlib import Path

PACKAGES = ("stages", "workflow")
FOLDER = Path("runs/code")


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


def fingerprint_file(script: str) -> str:
    """Where a script's fingerprint lies: stages/papers/dcp/train.py has runs/code/papers/dcp/train.json."""
    return FOLDER.joinpath(*Path(script).with_suffix(".json").parts[1:]).as_posix()


@cache
def _hash(path: str, _time: int, _size: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content; empty if there is no such file. Read again only when its time or size changed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return _hash(str(path), status.st_mtime_ns, status.st_size)


def edited(root: Path, fingerprint: Path) -> str:
    """The first module that is not as it was when the fingerprint was taken; empty if all are."""
    recorded = json.loads((root / fingerprint).read_text(encoding="utf-8"))
    return next((name for name, value in recorded.items() if file_hash(root / name) != value), "")


def main() -> None:
    """Write the fingerprint of a script."""
    script, target = sys.argv[1:]
    root, path = Path.cwd(), Path(target)
    values = {name: file_hash(root / name) for name in sorted(needed(root, root / script))}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    main()
