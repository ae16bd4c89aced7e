"""What is stale: every stage is `ok`, can be `restore`d from DVC's cache, or must `run`.

The rule is DVC's own (`Stage.changed`, then the run-cache), applied to the hashes that the dependencies will have
once the stages above are up to date, so that one pass plans the whole graph.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.engine.graph import Task, make_task, quiet, repro_order
from workflow.engine.hashes import Hasher, Predicted
from workflow.engine.parameters import Parameters
from workflow.engine.repository import refuse_files_in_use

if TYPE_CHECKING:
    from dvc.dependency import Dependency
    from dvc.repo import Repo
    from dvc.stage import PipelineStage


OBJECTS = 5000  # new objects before a collection of the youngest


@dataclass
class Decision:
    """The state of one task and, for each dependency known now, the value it was planned with."""

    task: Task
    state: str
    reason: str = ""
    expected: dict[str, str] = field(default_factory=dict)
    params: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Plan:
    """Decisions in the order of a serial `dvc repro`."""

    decisions: dict[str, Decision]
    data: list[str] = field(default_factory=list)

    def tasks(self) -> list[Task]:
        """All tasks, in order."""
        return [d.task for d in self.decisions.values()]

    def save(self, path: Path) -> None:
        """Write the plan as JSON, for the jobs and for what a cluster's jobs see of the Snakefile."""
        records = {
            a: {**d.task.record(), "state": d.state, "expected": d.expected, "params": d.params}
            for a, d in self.decisions.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(records, default=str))
        temporary.replace(path)

    @staticmethod
    def load(path: Path) -> Plan:
        """The tasks and states of a saved plan."""
        names = {item.name for item in fields(Task)}
        return Plan(
            {
                address: Decision(Task(**{key: value for key, value in record.items() if key in names}), record["state"])
                for address, record in json.loads(path.read_text()).items()
            }
        )


def make_plan(repo: Repo, *, restore: bool = False) -> Plan:
    """Plan every stage; with `restore` also bring back, on the way, whatever the cache holds.

    Call under the repository lock. Without `restore` nothing is written.

    Raises:
        LockError: with `restore`, a `dvc repro` is at work on a stage.
    """
    if restore:
        refuse_files_in_use(repo)
    with quiet(), few_collections():
        return Planner(repo, restore).plan()


@contextmanager
def few_collections() -> Iterator[None]:
    """Let more objects gather before Python looks for garbage: a plan makes many that stay, and little garbage.

    Of 13 s for a plan of 1,500 stages, 3.8 went into collections at Python's own threshold, 1.6 at this one, for 3 MiB more.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(OBJECTS, before[0]) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Planner:
    """One pass over the stages in topological order."""

    def __init__(self, repo: Repo, restore: bool) -> None:
        self.repo = repo
        self.restore = restore
        self.hasher = Hasher(repo)
        self.restored: list[PipelineStage] = []
        self.resolvers: dict[str, Any] = {}
        self.parameters = Parameters()

    def plan(self) -> Plan:
        """Decide every stage, then record what was restored in the lock files."""
        from dvc.stage import PipelineStage

        decisions: dict[str, Decision] = {}
        data = []
        for stage in repro_order(self.repo):
            if not isinstance(stage, PipelineStage):
                data.append(stage.addressing)  # what a *.dvc file tracks is hashed like any other dependency
                continue
            task = make_task(self.repo, stage, self.resolvers)
            decisions[task.address] = self._decide(stage, task)
        if self.restored:
            from workflow.engine.lockfile import record

            record(self.restored, positions([d.task for d in decisions.values()], self.repo.root_dir))
        return Plan(decisions, data)

    def _decide(self, stage: PipelineStage, task: Task) -> Decision:
        deps = {self._path(dep): dep for dep in stage.deps if not _is_params(dep)}
        predicted = {path: self.hasher.predict(path) for path in deps}
        decision = Decision(task, "run", params=self._values(stage))
        unknown = [p for p, value in predicted.items() if value is not None and value.hash_info is None]
        decision.expected = {p: v.hash_info.value for p, v in predicted.items() if v is not None and v.hash_info}
        if unknown:
            if self.restore:
                for path in unknown:
                    self._remove_strays(path)
            decision.reason = f"{unknown[0]} is remade"
            return self._note(stage, task, decision)
        reason = self._changed(stage, deps, predicted)
        if reason:
            self._sweep(deps, predicted, decision)
            decision.reason = reason
            found = self._run_cache(stage, deps, predicted)
        else:
            missing = [out for out in stage.outs if not self._present(out)]
            if not missing:
                decision.state = "ok"
                return self._note(stage, task, decision)
            decision.reason = f"{missing[0].def_path} is missing or altered"
            found = all(self._cached(out) for out in missing) or self._run_cache(stage, deps, predicted)
        if found and (not self.restore or self._bring_back(stage, bool(reason))):
            decision.state = "restore"
        return self._note(stage, task, decision)

    def _note(self, stage: PipelineStage, task: Task, decision: Decision) -> Decision:
        """Tell the hasher what the stage's outputs are, for the stages below."""
        for out in stage.outs:
            known = decision.state != "run" and out.hash_info
            expected = Predicted(out.meta, out.hash_info) if known else Predicted(None, None)
            self.hasher.expect(self._path(out), expected)
        return decision

    def _path(self, item: Dependency) -> str:
        return self.repo.fs.relpath(item.fs_path, self.repo.root_dir).replace("\\", "/")

    def _values(self, stage: PipelineStage) -> dict[str, dict[str, Any]]:
        return {dep.def_path: self.parameters.values(dep) for dep in stage.deps if _is_params(dep)}

    def _changed(self, stage: PipelineStage, deps: dict, predicted: dict[str, Predicted | None]) -> str:
        """The first reason why the recorded result is not this stage's, in words; empty if there is none."""
        if stage.cmd_changed or not any(dep.hash_info for dep in stage.deps):
            return "its command changed" if stage.cmd_changed else "it has no recorded result"
        for dep in stage.deps:
            if _is_params(dep) and self.parameters.changed(dep):
                return f"{dep.def_path} changed"
        for path, dep in deps.items():
            if predicted[path] is None or predicted[path].hash_info != dep.hash_info:
                return f"{path} changed"
        return ""

    def _sweep(self, deps: dict, predicted: dict[str, Predicted | None], decision: Decision) -> None:
        """Leave results of removed seeds or arms out of a folder that a stale stage gathers."""
        for path in deps:
            clean = self.hasher.without_strays(path)
            if clean is None or clean.hash_info is None:
                continue
            if self.restore:
                self._remove_strays(path)
            predicted[path] = clean
            decision.expected[path] = clean.hash_info.value

    def _remove_strays(self, path: str) -> None:
        for stray in self.hasher.strays(path):
            Path(self.repo.root_dir, stray).unlink(missing_ok=True)
        self.hasher.forget(path)

    def _present(self, out: Dependency) -> bool:
        """Whether an output lies in the workspace as recorded (and in the cache, if it is a cached one)."""
        found = self.hasher.workspace(self._path(out))
        return found is not None and found[1] == out.hash_info and (not out.use_cache or self._cached(out))

    def _cached(self, out: Dependency) -> bool:
        return bool(out.use_cache and out.hash_info and not out.changed_cache())

    def _run_cache(self, stage: PipelineStage, deps: dict, predicted: dict[str, Predicted | None]) -> bool:
        """Whether the run-cache has this stage's result; if so the stage's outputs take its hashes."""
        from dvc.stage.cache import _get_cache_hash
        from dvc.stage.loader import StageLoader
        from dvc.stage.serialize import to_single_stage_lockfile
        from dvc_data.hashfile.hash_info import HashInfo

        if any(value is None for value in predicted.values()):
            return False
        for path, dep in deps.items():
            dep.meta, dep.hash_info = predicted[path].meta or dep.meta, predicted[path].hash_info
        for dep in stage.deps:
            if _is_params(dep):
                dep.hash_info = HashInfo("params", self.parameters.values(dep))
        cache = self.repo.stage_cache
        key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
        folder = Path(cache._get_cache_dir(key))
        entries = sorted(folder.iterdir(), key=lambda f: f.stat().st_mtime, reverse=True) if folder.exists() else []
        entry = cache._load_cache(key, entries[0].name) if entries else None
        if not entry or not cache._create_stage(entry, wdir=stage.wdir).outs_cached():
            return False
        StageLoader.fill_from_lock(stage, {"outs": entry["outs"], "deps": [], "params": {}} | _own_deps(stage))
        return True

    def _bring_back(self, stage: PipelineStage, changed: bool) -> bool:
        """Restore the stage's outputs; False if DVC cannot after all (then the stage runs)."""
        from workflow.engine.job import restore_outputs

        if not restore_outputs(stage):
            return False
        for out in stage.outs:
            self.hasher.forget(self._path(out))
        if changed:
            self.restored.append(stage)
        return True


def _own_deps(stage: PipelineStage) -> dict[str, Any]:
    """The stage's dependencies and parameters as lock-file data, so that refilling keeps them."""
    from dvc.stage.serialize import to_single_stage_lockfile

    data = to_single_stage_lockfile(stage)
    return {key: data[key] for key in ("deps", "params") if key in data}


def _is_params(dep: Dependency) -> bool:
    from dvc.dependency import ParamsDependency

    return isinstance(dep, ParamsDependency)


def positions(tasks: list[Task], root: str) -> dict[str, dict[str, int]]:
    """Position of every stage within its dvc.yaml (absolute path), in the order of a serial `dvc repro`."""
    order: dict[str, dict[str, int]] = {}
    for task in tasks:
        entries = order.setdefault(os.path.join(root, task.file), {})
        entries[task.name] = len(entries)
    return order
