"""Keep every dvc.yaml true to the code: each stage script has a fingerprint stage with all modules that it imports.

python -m workflow.imports            list what is missing or too much; exit code 1 if anything is
python -m workflow.imports --write    put it right
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from workflow.engine.graph import Task, make_task
from workflow.engine.repository import open_repo
from workflow.fingerprint import fingerprint_file, needed

SCRIPT = re.compile(r"\bpython3? (\S+\.py)\b")
FINGERPRINT = re.compile(r"\bpython3? workflow/fingerprint\.py (\S+\.py) ")
CODE = "python workflow/fingerprint.py {script} {file}"
TEMPLATE = """\
  {name}_code:
    wdir: {wdir}
    cmd: {cmd}
    deps:
{deps}    outs:
      - {file}
    meta: {{threads: 1, mem_mb: 200, runtime: 1}}
"""


def script_of(root: Path, cmd: str) -> Path | None:
    """The project script that a stage's command runs."""
    match = SCRIPT.search(cmd)
    return root / match[1] if match else None


def is_fingerprint(task: Task) -> bool:
    """Whether the task takes a script's fingerprint."""
    return FINGERPRINT.search(task.cmd) is not None


def wanted(root: Path, task: Task) -> set[str]:
    """The code that a task has to depend on: modules, for a fingerprint; else the script's fingerprint."""
    match = FINGERPRINT.search(task.cmd)
    if match:
        return needed(root, root / match[1]) | {"workflow/fingerprint.py"}
    script = script_of(root, task.cmd)
    return {fingerprint_file(script.relative_to(root).as_posix())} if script else set()


def difference(root: Path, task: Task) -> tuple[set[str], set[str]]:
    """Code files that the task's deps lack, and those that they hold needlessly."""
    declared = {dep for dep in task.deps if _is_code(dep)}
    return wanted(root, task) - declared, declared - wanted(root, task)


def _is_code(dep: str) -> bool:
    return dep.endswith(".py") or dep.startswith("runs/code/")


def rewrite(text: str, stage: str, files: set[str]) -> str:
    """Replace the code files among a stage's deps in the text of a dvc.yaml (block style)."""
    pattern = re.compile(rf"(^  {re.escape(stage)}:\n(?:    .*\n|\n)*?    deps:\n)((?:      - .*\n)+)", re.MULTILINE)
    match = pattern.search(text)
    if match is None:
        raise ValueError(f"stage {stage} has no deps: in block style")
    others = [line for line in match[2].splitlines(keepends=True) if not _is_code(line.strip()[2:])]
    lines = [f"      - {name}\n" for name in sorted(files)]
    return text[: match.start(2)] + "".join(lines + others) + text[match.end(2) :]


def with_fingerprint(text: str, root: Path, file: str, script: str, used_by: str) -> str:
    """The text of a dvc.yaml with a fingerprint stage for `script` in front of the stage `used_by`."""
    target = fingerprint_file(script)
    deps = "".join(f"      - {name}\n" for name in sorted(needed(root, root / script) | {"workflow/fingerprint.py"}))
    wdir = "/".join([".."] * (len(Path(file).parts) - 1)) or "."
    cmd = CODE.format(script=script, file=target)
    stage = TEMPLATE.format(name=Path(script).stem, wdir=wdir, cmd=cmd, deps=deps, file=target)
    return re.sub(rf"^  {re.escape(used_by)}:\n", lambda match: stage + match[0], text, count=1, flags=re.MULTILINE)


def mend(root: Path, task: Task, produced: set[str]) -> None:
    """Put one task's dvc.yaml right."""
    path, stage = root / task.file, task.name.partition("@")[0]
    text = rewrite(path.read_text(), stage, wanted(root, task))
    script = script_of(root, task.cmd)
    if not is_fingerprint(task) and script:
        name = script.relative_to(root).as_posix()
        if fingerprint_file(name) not in produced:
            produced.add(fingerprint_file(name))
            text = with_fingerprint(text, root, task.file, name, stage)
    path.write_text(text)


def main() -> int:
    """Check, or with --write mend, the code dependencies of every stage."""
    repo = open_repo()
    root, resolvers = Path(repo.root_dir), {}
    tasks = [make_task(repo, stage, resolvers) for stage in repo.index.stages if hasattr(stage, "name") and stage.cmd]
    produced = {out for task in tasks for out in task.outs}
    # The root file first: it owns the fingerprints of scripts that several papers use.
    rules = sorted({task.rule: task for task in tasks}.values(), key=lambda task: (task.file != "dvc.yaml", task.rule))
    wrong = 0
    for task in rules:
        missing, surplus = difference(root, task)
        if not missing and not surplus and wanted(root, task) <= produced | needed_modules(root, task):
            continue
        wrong += 1
        print(f"{task.address}: missing {sorted(missing)}, needless {sorted(surplus)}")
        if "--write" in sys.argv:
            mend(root, task, produced)
    return 1 if wrong and "--write" not in sys.argv else 0


def needed_modules(root: Path, task: Task) -> set[str]:
    """What no stage has to produce: the modules under a fingerprint."""
    return wanted(root, task) if is_fingerprint(task) else set()


if __name__ == "__main__":
    sys.exit(main())
