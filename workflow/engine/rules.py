"""What the Snakefile asks for: the plan, one rule per declared stage, and the warm start of a real run."""

from __future__ import annotations

import atexit
import bisect
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow.engine.data import ensure_data
from workflow.engine.graph import Task
from workflow.engine.job import PLAN, PLAN_VARIABLE, STATE
from workflow.engine.links import ensure_links
from workflow.engine.lockfile import unreadable
from workflow.engine.pipelinelock import hold_pipeline
from workflow.engine.plan import Decision, Plan, make_plan
from workflow.engine.repository import locked, open_repo

MARKER = STATE / "stale"
TIMESTAMP = ".snakemake_timestamp"  # Snakemake's time of a folder
CLIENT = Path(__file__).with_name("client.py")
PACKED = 10  # minutes that a stage may take to share a submission with others


class Rule:
    """The members of one declared stage; its matrix keys are Snakemake's wildcards."""

    def __init__(self, pipeline: Pipeline, name: str, members: list[Decision]) -> None:
        self.pipeline = pipeline
        self.name = name
        self.members = members
        first = members[0].task
        self.patterns = first.patterns
        self.meta = first.meta
        self._by_keys = {tuple(sorted(d.task.keys.items())): d for d in members}

    def member(self, wildcards: Any) -> Decision:
        """The resolved stage for Snakemake's wildcards.

        Raises:
            KeyError: no such combination is declared.
        """
        return self._by_keys[tuple(sorted(dict(wildcards).items()))]

    @property
    def outputs(self) -> list[tuple[str, bool]]:
        """Output patterns, and whether each is a directory (a path without suffix)."""
        return [(pattern, not Path(pattern).suffix) for pattern in self.patterns]

    @property
    def constraints(self) -> dict[str, str]:
        """Wildcard constraints that admit the declared values only."""
        keys: dict[str, set[str]] = {}
        for decision in self.members:
            for key, value in decision.task.keys.items():
                keys.setdefault(key, set()).add(re.escape(value))
        return {key: "|".join(sorted(values)) for key, values in keys.items()}

    def log(self, folder: str, suffix: str) -> str:
        """A file pattern for the rule's log or benchmark: one file per combination of keys."""
        keys = sorted(self.members[0].task.keys)
        return "/".join([folder, self.name, *(f"{{{key}}}" for key in keys)]) + suffix

    def inputs(self, ancient: Callable[[str], Any]) -> Callable[[Any], list[Any]]:
        """Snakemake's input function: dependencies, plus the marker where the stage is stale."""

        def function(wildcards: Any) -> list[Any]:
            decision = self.member(wildcards)
            paths = self.pipeline.producers(decision.task)
            files = [path if self.pipeline.remade(path) else ancient(path) for path in paths]
            stale = decision.state in self.pipeline.stale and self.pipeline.marking
            return files + ([str(MARKER)] if stale else [])

        return function

    def address(self, wildcards: Any) -> str:
        """The stage's address, Snakemake's only parameter of the rule."""
        return self.member(wildcards).task.address

    @property
    def height(self) -> int:
        """How long a chain of stages waits for this one."""
        return self.pipeline.heights.get(self.name, 0)

    @property
    def short(self) -> bool:
        """Whether the stage ends within a minute (fingerprints of code, tables): not worth a place in a cluster's queue."""
        return self._minutes <= 1

    @property
    def packed(self) -> bool:
        """Whether several jobs of the rule make one submission, in which they run one after the other."""
        return self.pipeline.batch > 1 and 1 < self._minutes <= PACKED

    @property
    def _minutes(self) -> int:
        return int(self.meta.get("runtime", 60))

    def resource(self, key: str, default: Any) -> Any:
        """A value of the stage's `meta:`."""
        return self.meta.get(key, default)


class Pipeline:
    """The plan of one Snakemake process.

    Args:
        main: this is the process the user started, not a cluster job that parses the Snakefile again.
        executing: it is about to run jobs (not a dry run, `--unlock`, `--lint`, `--rulegraph` ...).
        local: its jobs run on this machine.
        batch: so many jobs of a rule with short stages are one submission to a cluster.
    """

    def __init__(self, *, main: bool, executing: bool, local: bool, batch: int = 1) -> None:
        # A real run restores while it plans, so its jobs are what must run; a dry run lists both.
        self.stale = {"run"} if executing else {"run", "restore"}
        self.marking = main
        self.batch = batch
        self.warm = main and executing and os.environ.get("REPRISE_WARM", "1") != "0"
        self.submitting = main and executing and not local
        if main and executing:
            hold_pipeline(STATE)
        self.plan = self._plan(executing) if main else self._saved_plan()
        self._makers = {out: d for d in self.plan.decisions.values() for out in d.task.outs}
        self._outs = sorted(self._makers)
        self._declared: dict[str, list[Task]] = {}  # by dvc.yaml
        for task in self.plan.tasks():
            self._declared.setdefault(task.file, []).append(task)
        self._producers: dict[str, list[str]] = {}  # Snakemake asks for the inputs of a job many times
        self.rules = self._group()
        self.heights = self._heights() if main and executing else {}
        if main:
            self._mark(executing)
        self.command = f"{sys.executable} -m workflow.engine.job"
        if main and executing:
            self._publish()

    def _plan(self, executing: bool) -> Plan:
        from dvc.exceptions import PrettyDvcException

        repo = open_repo()
        if executing:
            ensure_links(repo)
            ensure_data(repo)
        try:
            plan = locked(repo, lambda: make_plan(repo, restore=executing))
        except PrettyDvcException as error:
            sys.exit(unreadable(error))
        repo.close()
        return plan

    def _saved_plan(self) -> Plan:
        """A cluster job's view: what the main process decided. It reads no declaration again, which at a thousand stages would
        cost each job seconds; `workflow.engine.job` checks its own stage against what is declared by then.
        """
        return Plan.load(Path(os.environ.get(PLAN_VARIABLE, PLAN)))

    def _group(self) -> list[Rule]:
        grouped: dict[str, list[Decision]] = {}
        for decision in self.plan.decisions.values():
            grouped.setdefault(decision.task.rule, []).append(decision)
        return [Rule(self, name, members) for name, members in grouped.items()]

    def _heights(self) -> dict[str, int]:
        """By rule: stages on the longest chain that waits for one of its stages."""
        tasks = self.plan.tasks()
        heights = dict.fromkeys((task.address for task in tasks), 0)
        for task in reversed(tasks):  # what depends on a stage comes before it here
            makers = {self._makers[path].task.address for path in self.producers(task) if path in self._makers}
            for maker in makers:
                heights[maker] = max(heights[maker], heights[task.address] + 1)
        rules: dict[str, int] = {}
        for task in tasks:
            rules[task.rule] = max(rules.get(task.rule, 0), heights[task.address])
        return rules

    def _mark(self, executing: bool) -> None:
        """Touch the marker: newer than whatever stale stages left, even if the clock has gone back since.

        Before a run nothing that they read or left keeps a time to come: what the jobs write must be newer.
        """
        tasks = [d.task for d in self.plan.decisions.values() if d.state in self.stale]
        known = {Path(name) for task in tasks for name in (*task.outs, *self.producers(task))}
        times = {path: path.stat().st_mtime for one in known for path in (one, one / TIMESTAMP) if path.exists()}
        now = time.time()
        ahead = {path: written for path, written in times.items() if written >= now}
        for path in ahead if executing else ():
            os.utime(path, (now - 1, now - 1))
        MARKER.mkdir(parents=True, exist_ok=True)
        newest = now if executing else max([now, *(written + 1 for written in ahead.values())])
        os.utime(MARKER, (newest, newest))

    def _publish(self) -> None:
        """Save the plan for the jobs and start the server, if there is something to run."""
        stale = [d for d in self.plan.decisions.values() if d.state in self.stale]
        restored = sum(d.state == "restore" for d in self.plan.decisions.values())
        if restored:
            print(f"{restored} stages restored from DVC's cache.", file=sys.stderr)
        path = PLAN.absolute()
        self.plan.save(path)
        os.environ[PLAN_VARIABLE] = str(path)
        os.environ["REPRISE_PYTHON"] = sys.executable
        if self.warm and stale:
            self.command = f"{sys.executable} -S -E {CLIENT} {start_server(path)}"

    def remade(self, path: str) -> bool:
        """Whether `path` is an output of a stage that is not up to date."""
        maker = self._makers.get(path)
        return maker is not None and maker.state == "run"

    def producers(self, task: Task) -> list[str]:
        """The task's inputs for Snakemake: a folder dependency stands for the outputs declared inside it."""
        if task.address not in self._producers:
            paths: list[str] = []
            for dep in task.deps:
                inside = [] if dep in self._makers else self._inside(dep)
                paths += inside or [dep]
            self._producers[task.address] = list(dict.fromkeys(paths))
        return self._producers[task.address]

    def _inside(self, folder: str) -> list[str]:
        """The declared outputs below a folder."""
        first, last = (bisect.bisect_left(self._outs, folder + mark) for mark in ("/", "0"))  # "0" comes after "/"
        return self._outs[first:last]

    def targets(self, *, file: str | None = None, suffix: str = "") -> list[str]:
        """Outputs of the stages declared in one dvc.yaml, or of the rules whose name ends so; all by default."""
        tasks = self.plan.tasks() if file is None else self._declared.get(file, [])
        return [out for task in tasks if task.rule.endswith(suffix) for out in task.outs]

    def papers(self) -> dict[str, str]:
        """Name and dvc.yaml of every paper: whatever lies under stages/papers."""
        return {f.split("/")[2]: f for f in sorted(self._declared) if f.startswith("stages/papers/")}


def start_server(plan: Path) -> str:
    """Start the warm-start server; returns its socket. It ends when this process does, however that ends.

    The socket listens before the server has imported anything, so that early clients wait for it.
    """
    # Relative, since a socket's path may have only 108 characters; what a killed run left behind goes first.
    path = STATE / "server"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1024)
    read, write = os.pipe()
    with open(STATE / "server.log", "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workflow.engine.server", str(listener.fileno()), str(plan), str(read)],
            pass_fds=[listener.fileno(), read],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    listener.close()
    os.close(read)

    def stop() -> None:
        os.close(write)
        process.wait()
        path.unlink(missing_ok=True)

    atexit.register(stop)
    return str(path)
