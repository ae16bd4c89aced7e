"""Run one stage: check it against the plan, take it from the run-cache or run its command, commit the result.

DVC's state is touched under the repository lock only, and the command runs outside of it. Nothing is committed
if a dependency, a parameter or the stage's declaration changed since the plan was made.

    python -m workflow.engine.job ADDRESS        one job in a process of its own (clusters, or no warm start)
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from workflow.engine import devices
from workflow.engine.child import in_parallel, processes
from workflow.engine.declarations import Declarations
from workflow.engine.repository import drop_corrupted, in_run_cache, locked, open_repo
from workflow.fingerprint import FOLDER, edited

if TYPE_CHECKING:
    from dvc.stage import PipelineStage

PLAN_VARIABLE = "REPRISE_PLAN"
STATE = Path(".snakemake/engine")
PLAN = STATE / "plan.json"  # where a cluster's job looks that did not inherit the variable
COSTS = Path("runs/.costs")


class JobError(Exception):
    """A job that must not be committed; the message is for the user, in one line."""


def restore_outputs(stage: PipelineStage) -> bool:
    """Bring a stage's outputs back from DVC's cache or run-cache; False if they are not (all) there."""
    from dvc.exceptions import CheckoutError
    from dvc.stage.cache import RunCacheNotFoundError

    try:
        if all(out.use_cache and not out.changed_cache() for out in stage.outs):
            stage.checkout(force=True)
        else:
            wanted = [(out, out.hash_info) for out in stage.outs]
            stage.remove_outs(ignore_remove=False, force=False)
            stage.repo.stage_cache.restore(stage)
            if any(known and out.get_hash() != known for out, known in wanted):
                return False
        stage.save(run_cache=False)
        return not drop_corrupted(stage)
    except (RunCacheNotFoundError, CheckoutError, FileNotFoundError):
        return False


@dataclass
class Snapshot:
    """What a job depends on: hash of each path, values of each params file."""

    paths: dict[str, str]
    params: dict[str, dict[str, Any]]

    def difference(self, other: Snapshot) -> str:
        """The first thing of `self` that is otherwise in `other`, in words; empty if none."""
        for path, value in self.paths.items():
            if other.paths.get(path, value) != value:
                return path
        for file, values in self.params.items():
            for key, value in values.items():
                if key in other.params.get(file, {}) and _saved(other.params[file][key]) != _saved(value):
                    return f"{key} in {file}"
        return ""


def _saved(value: Any) -> Any:
    """A parameter as the saved plan gives it back, where keys are texts."""
    return json.loads(json.dumps(value, default=str))


def edited_module(stage: PipelineStage) -> str:
    """The first module of the stage's script that is not as its fingerprint has it; empty if there is none."""
    root = Path(stage.repo.root_dir)
    for dep in stage.deps:
        path = Path(stage.repo.fs.relpath(dep.fs_path, stage.repo.root_dir))
        if path.is_relative_to(FOLDER):
            found = edited(root, path)
            if found:
                return found
    return ""


def snapshot(stage: PipelineStage) -> Snapshot:
    """Save the stage's dependencies (their hashes are read afresh) and return them.

    Raises:
        JobError: a dependency is missing.
    """
    from dvc.dependency import ParamsDependency
    from dvc.exceptions import DvcException

    try:
        stage.save_deps()
    except DvcException as error:
        raise JobError(f"{stage.name}: {error}") from error
    paths, params = {}, {}
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            params[dep.def_path] = dict(dep.hash_info.value)
        else:
            paths[dep.def_path] = dep.hash_info.value
    return Snapshot(paths, params)


class Job:
    """One stage's way from the plan to the lock file."""

    def __init__(self, declarations: Declarations, address: str, planned: Mapping[str, Any], order: Mapping[str, Any]) -> None:
        self.declarations = declarations
        self.repo = declarations.repo
        self.address = address
        self.planned = planned
        self.order = order
        self.stage: PipelineStage = self._load()
        self.before: Snapshot | None = None

    def _load(self) -> PipelineStage:
        """Load the stage as it is declared at this moment.

        Raises:
            JobError: it is not there any more, or its command or outputs are not those of the plan.
        """
        from dvc.exceptions import DvcException

        file, _, name = self.address.rpartition(":")
        try:
            stage = self.declarations.stage(file, name)
        except DvcException as error:
            raise JobError(f"{self.address} cannot be loaded: {error}") from error
        outs = sorted(out.def_path for out in stage.outs)
        if stage.cmd != self.planned["cmd"] or outs != sorted(self.planned["outs"]):
            raise JobError(f"{file} changed after the run was planned; start snakemake again")
        return stage

    def begin(self) -> bool:
        """Check the dependencies against the plan; True if the run-cache had the result (nothing is left to do).

        Raises:
            JobError: something changed since the plan was made.
        """
        return locked(self.repo, self._begin)

    def _begin(self) -> bool:
        with self._files():
            return self._check_and_clear()

    def _files(self) -> AbstractContextManager[None]:
        """DVC's own lock of the stage's files; raises its LockError while a `dvc repro` makes or reads them."""
        from dvc.rwlock import rwlock

        read = [dep.fs_path for dep in self.stage.deps if dep.is_in_repo]
        write = [out.fs_path for out in self.stage.outs]
        hardlink = self.repo.config["core"].get("hardlink_lock", False)
        return rwlock(self.repo.tmp_dir, self.repo.fs, " ".join(sys.argv), read, write, hardlink)

    def _check_and_clear(self) -> bool:
        self.before = snapshot(self.stage)
        planned = Snapshot(self.planned["expected"], self.planned["params"])
        changed = planned.difference(self.before) or edited_module(self.stage)
        if changed:
            raise JobError(f"{changed} changed after the run was planned; start snakemake again")
        if self._from_run_cache():
            return True
        self.stage.remove_outs(ignore_remove=False, force=False)
        for out in self.stage.outs:
            Path(out.fs_path).parent.mkdir(parents=True, exist_ok=True)
        return False

    def _from_run_cache(self) -> bool:
        from dvc.stage.cache import RunCacheNotFoundError

        if not in_run_cache(self.stage):  # DVC takes four times as long to say so
            return False
        self.stage.remove_outs(ignore_remove=False, force=False)
        try:
            self.repo.stage_cache.restore(self.stage)
        except RunCacheNotFoundError:
            return False
        self.stage.save(run_cache=False)
        if drop_corrupted(self.stage):
            self.stage.remove_outs(ignore_remove=False, force=False)
            return False
        self._record()
        print(f"{self.address}: restored from the run-cache", flush=True)
        return True

    def finish(self, code: int, seconds: float) -> None:
        """Commit the result of a command that ended with `code` after `seconds` of processor time.

        Raises:
            JobError: the command failed, an output is missing, or a dependency changed while it ran.
        """
        if code:
            raise JobError(f"{self.address} failed with exit code {code}")
        locked(self.repo, self._commit)
        self._note_cost(seconds)

    def _commit(self) -> None:
        from dvc.exceptions import DvcException
        from dvc.lock import LockError

        current = self._load()
        changed = self.before.difference(snapshot(current)) or edited_module(current)
        if changed:
            raise JobError(f"{changed} changed while {self.address} ran: its result is not kept; run again")
        try:
            # The order matters for a kill in between: DVC writes the run-cache entry before the outputs
            # are in the cache, which leaves entries that cannot be restored.
            current.save_outs()
            current.md5 = current.compute_md5()
            drop_corrupted(current)  # DVC would keep what is in the cache under the same name
            current.commit()
            self.repo.stage_cache.save(current)
        except LockError:
            raise
        except (DvcException, OSError) as error:
            raise JobError(f"{self.address} cannot be committed: {error}") from error
        self.stage = current
        self._record()

    def _record(self) -> None:
        from workflow.engine.lockfile import record

        record([self.stage], self.order)

    def _note_cost(self, seconds: float) -> None:
        """Leave the processor seconds where `make bench` collects them (never in a tracked output)."""
        path = COSTS / f"{self.address.replace('/', '_')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"stage": self.address, "core_seconds": round(seconds, 3)}))


def load_plan(path: Path, root: str) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """Read a saved plan: the decisions by address, and the order of each lock file."""
    records = json.loads(path.read_text())
    order: dict[str, dict[str, int]] = {}
    for address in records:
        file, _, name = address.rpartition(":")
        entries = order.setdefault(os.path.join(root, file), {})
        entries[name] = len(entries)
    return records, order


def run_command(cmd: str) -> tuple[int, float]:
    """Run a stage's command in a shell, with the GPUs it asks for; returns its exit code and processor seconds.

    Passes SIGTERM on.
    """
    leases = devices.take()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shell = ["/bin/sh", "-c", cmd if "&&" in cmd else f"exec {cmd}"]
    process = subprocess.Popen(in_parallel(cmd, processes(leases)) or shell, pass_fds=leases)

    def forward(signum: int, _frame: FrameType | None) -> None:
        process.send_signal(signum)

    signal.signal(signal.SIGTERM, forward)
    code = process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return code, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Run the stage named on the command line."""
    address = sys.argv[1]
    try:
        repo = open_repo()
        records, order = load_plan(Path(os.environ.get(PLAN_VARIABLE, PLAN)), repo.root_dir)
        job = Job(Declarations(repo), address, records[address], order)
        if not job.begin():
            print(f"> {job.planned['cmd']}", flush=True)
            job.finish(*run_command(job.planned["cmd"]))
    except (JobError, devices.DeviceError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
