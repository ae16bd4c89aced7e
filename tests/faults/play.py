"""Play one fault on the toy pipeline, run the pipeline again, and check what is left: the undisturbed bytes and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.cluster.toy import write_cluster_toy
from tests.workflow.toy import clean, executed, sh
from workflow.engine.lockfile import split_entries

RUN = "snakemake --cores 2"
Inject = Callable[[Path, ExitStack], str]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Args:
        what: the fault, for the table.
        inject: makes it happen in a clone, to its end, and says what was seen of it, for the table. What must be undone after
            the checks goes on the stack.
        finished: the clone's pipeline has already run to its end.
        advice: what the next run must say, since it cannot go on; `remedy` then does that.
        destroys: it takes away results that were committed, which may then be made again.
        edits: it changes what lock files say.
        possible: it can be played on this machine.
    """

    what: str
    inject: Inject
    finished: bool = False
    advice: str = ""
    remedy: str = ""
    destroys: bool = False
    edits: bool = False
    possible: bool = True


def prepare(folder: Path) -> tuple[Path, Path]:
    """A toy pipeline that has not run, and one that has, committed."""
    fresh, finished = (write_cluster_toy(folder / name, seeds=(0,), arms=("l1",)) for name in ("fresh", "finished"))
    sh(finished, RUN)
    sh(finished, "git add -A && git -c user.name=t -c user.email=t@t commit -qm ran")
    executed(finished)
    return fresh, finished


class Played(NamedTuple):
    """What was seen of a fault and what the next run did, for the table, and how many stages were committed before that."""

    seen: str
    outcome: str
    committed: int


def play(fault: Fault, folder: Path, reference: Path) -> Played:
    """Disturb the clone and run it again.

    Raises:
        AssertionError: something wrong was committed, something committed was lost, or it ends in other bytes.
    """
    right = entries(reference)
    committed = set(entries(folder))
    with ExitStack() as stack:
        seen = fault.inject(folder, stack)
        assert fault.edits or entries(folder).items() <= right.items(), "something wrong was committed"
        committed |= set(entries(folder))
        executed(folder)
        outcome = _go_on(fault, folder)
        again = committed & {_stage(line) for line in executed(folder)}
        assert fault.destroys or not again, f"ran again though committed: {again}"
        assert not (other := _differing(entries(folder), right)), other
        assert not (other := _differing(outputs(folder), outputs(reference))), other
        assert clean(folder)
    return Played(seen, outcome, len(committed))


def _go_on(fault: Fault, folder: Path) -> str:
    """Run the pipeline, after what it advises if it must."""
    done = sh(folder, RUN, check=False)
    if not fault.advice:
        assert done.returncode == 0, done.stdout + done.stderr
        return "goes on to the undisturbed bytes"
    message = re.search(r"^error: (.*)", done.stdout + done.stderr, re.MULTILINE)
    assert done.returncode and message and fault.advice in message[1], done.stdout + done.stderr
    sh(folder, fault.remedy)
    sh(folder, RUN)
    return f"stops: *{message[1]}*. Then goes on to the undisturbed bytes"


def _differing(found: dict, wanted: dict) -> dict:
    """What is found and wanted under each name where they differ."""
    names = sorted({*found, *wanted})
    return {name: (found.get(name), wanted.get(name)) for name in names if found.get(name) != wanted.get(name)}


def entries(folder: Path) -> dict[str, str]:
    """What the lock files record, by paper and step."""
    found = {}
    for lock in folder.rglob("dvc.lock"):
        paper = lock.parent.name if lock.parent.parent.name == "papers" else ""
        for name, text in _entries(lock).items():
            found[f"{paper} {name.split('@')[0]}"] = text
    return found


def _entries(lock: Path) -> dict[str, str]:
    try:
        return split_entries(lock.read_text())
    except ValueError:
        return {}


def _stage(line: str) -> str:
    """The entry of a line of the trace (`train paper=chex seed=0`)."""
    step, *words = line.split()
    paper = next((word.split("=")[1] for word in words if word.startswith("paper=")), "")
    return f"{paper} {'numbers' if step == 'prepare' else step}"


def outputs(folder: Path) -> dict[str, bytes]:
    """Bytes of every result."""
    files = [folder / "reports/table.md", *folder.glob("runs/**/*.json")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if ".costs" not in str(file)}
