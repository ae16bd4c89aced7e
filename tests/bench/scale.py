"""Scale: the plan and `snakemake -n` at 300, 3,000 and 30,000 generated stages, each measured in a process of its own.

REPRISE_BENCH_SCALE names other numbers of papers (a hundred stages each); REPRISE_BENCH_LIMIT the seconds that a command may take.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.table import Row
from tests.workflow.generated import finish, write_pipeline
from tests.workflow.toy import environment

PAPERS = "3,30,300"
PLAN = """
import sys
from workflow.engine.plan import make_plan
from workflow.engine.repository import locked, open_repo
repo = open_repo()
states = [decision.state for decision in locked(repo, lambda: make_plan(repo)).decisions.values()]
print(*(f"{states.count(state)} {state}" for state in sorted(set(states))))
"""
COMMANDS = {"plan": [sys.executable, "-c", PLAN], "snakemake -n": [sys.executable, "-m", "snakemake", "-n"]}
# A small process starts the command: the kernel counts what the one that starts it held as the command's own memory.
START = """
import json, os, signal, subprocess, sys
limit, *command = sys.argv[1:]
process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGKILL))  # what it has started ends with it
signal.setitimer(signal.ITIMER_REAL, float(limit))
said = process.stdout.read().decode(errors="replace")
_, status, usage = os.wait4(process.pid, 0)
found = {"code": os.waitstatus_to_exitcode(status), "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss}
print(json.dumps({**found, "said": said[-20000:]}))
"""
STATES = {"never run": ("{stages} run", "\nall "), "up to date": ("{stages} ok", "Nothing to be done")}
EVIDENCE = dict(zip(COMMANDS, (0, 1)))  # what of STATES the command's output must contain


@dataclass
class Cost:
    """Processor seconds of a command and its children, the most memory that one of them held (MiB), and whether it ended."""

    cpu: float
    memory: float
    ended: bool

    def text(self) -> str:
        """The cost in words; a command that was stopped took more than this."""
        return f"{'' if self.ended else 'more than '}{self.cpu:.3g} s, {self.memory:.0f} MiB"


def measured(folder: Path, command: list[str], evidence: str, limit: float) -> Cost:
    """Cost of a command in the folder, stopped after `limit` seconds.

    Raises:
        AssertionError: it failed, or `evidence` is not in what it printed.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", START, str(limit), *command],
        cwd=folder, env=environment(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    ended = found["code"] != -signal.SIGKILL
    assert not ended or (found["code"] == 0 and evidence in found["said"]), found["said"][-2000:]
    return Cost(found["cpu"], found["memory"] / 1024, ended)


def costs(folder: Path, papers: int, limit: float) -> tuple[int, dict[str, Cost]]:
    """Number of stages, and what each command costs in each state of a pipeline of so many papers."""
    stages = write_pipeline(folder, papers)
    found = {}
    for state, evidence in STATES.items():
        if state == "up to date":
            finish(folder, papers)
            # DVC notes the hashes of files that it sees for the first time; a run would have done so.
            measured(folder, COMMANDS["plan"], evidence[0].format(stages=stages), limit)
        for name, command in COMMANDS.items():
            found[f"{name}, {state}"] = measured(folder, command, evidence[EVIDENCE[name]].format(stages=stages), limit)
    return stages, found


def rows() -> list[Row]:
    """A row for each command, state and size; its reference is the next smaller size, the ratio that of seconds a stage."""
    sizes = [int(papers) for papers in os.environ.get("REPRISE_BENCH_SCALE", PAPERS).split(",")]
    limit = float(os.environ.get("REPRISE_BENCH_LIMIT", "900"))
    made: list[Row] = []
    before: tuple[int, dict[str, Cost]] | None = None
    for papers in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            now = costs(Path(scratch), papers, limit)
        made += [row(name, now, before) for name in now[1]]
        before = now
    return made


def row(name: str, now: tuple[int, dict[str, Cost]], before: tuple[int, dict[str, Cost]] | None) -> Row:
    """One row; without a smaller size the reference is the same measurement."""
    stages, found = now
    smaller, reference = before or now
    each, other = found[name].cpu / stages, reference[name].cpu / smaller
    return Row(
        f"{name}, {stages} stages: CPU s and memory; ms a stage against {smaller} stages",
        f"{found[name].text()}, {1000 * each:.2f} ms",
        f"{reference[name].text()}, {1000 * other:.2f} ms" if before else "-",
        each / other,
        "<= 1.1" if before else "-",
    )
