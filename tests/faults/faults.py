"""The faults: kills, a full disk, a cache that cannot be written or is not what it was, time, signals, two at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.cluster.network import network_folder, possible
from tests.faults.play import RUN, Fault, Inject
from tests.workflow.test_promises import kill_group, no_processes, start, trace, wait_for
from tests.workflow.toy import sh

CACHE = ".dvc/cache"
LOCK = "stages/papers/chex/dvc.lock"


def _objects(folder: Path) -> list[Path]:
    """Files in DVC's cache, not counting data/'s."""
    return [path for path in (folder / CACHE / "files").rglob("*") if path.is_file() and path.suffix != ".dir"]


MOMENTS: dict[str, tuple[Callable[[Path], bool], float]] = {
    "planning": (lambda folder: (folder / ".snakemake/engine/pipeline.lock").exists(), 1.0),
    "running": (lambda folder: "train" in trace(folder), 0.5),
    "committing": (lambda folder: len(_objects(folder)) > 1, 0.2),
    "restoring": (lambda folder: any((folder / "runs").rglob("*.json")), 0.3),
}


def kill(moment: str, seed: int) -> Inject:
    """kill -9 of everything, a random while after the moment began."""
    began, spread = MOMENTS[moment]

    def inject(folder: Path, _stack: ExitStack) -> str:
        if moment == "restoring":
            shutil.rmtree(folder / "runs")
        process = start(folder, RUN)
        wait_for(lambda: began(folder) or process.poll() is not None)
        time.sleep(random.Random(seed).uniform(0, spread))
        if process.poll() is None:
            kill_group(process)
        wait_for(lambda: no_processes(folder))
        return "all processes are gone, what was begun is not committed"

    return inject


def network(seconds: float, remembered: float) -> Inject:
    """The clone lies on a folder of which each call takes so long, and a run is killed there while it trains."""

    def inject(folder: Path, stack: ExitStack) -> str:
        served = folder.rename(folder.with_name("served"))
        folder.mkdir()
        stack.enter_context(network_folder(served, folder, seconds, remembered))
        return kill("running", 0)(folder, stack)

    return inject


def killed(moment: str, seed: int) -> Fault:
    """One kill, at a moment of its own."""
    return Fault(f"`kill -9` while {moment}", kill(moment, seed), finished=moment == "restoring")


def full_disk(where: str, *messages: str) -> Inject:
    """No space is left in a folder of the clone: a small tmpfs, or no file may grow where mounting is not permitted."""

    def inject(folder: Path, stack: ExitStack) -> str:
        path = folder / where
        path.mkdir(parents=True, exist_ok=True)
        saved = shutil.copytree(path, folder.with_name("saved"))
        if _mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", path, stack=stack):
            shutil.copytree(saved, path, dirs_exist_ok=True)
            subprocess.run(f"head -c 300000 /dev/zero > {path}/ballast", shell=True, check=False, stderr=subprocess.DEVNULL)
            failed = sh(folder, RUN, check=False)
            (path / "ballast").unlink()
        else:
            failed = sh(folder, f"ulimit -f 0; {RUN}", check=False)
        return _failure(failed, *messages)

    return inject


def read_only_cache(folder: Path, stack: ExitStack) -> str:
    """DVC's cache cannot be written for the length of a run."""
    path = folder / CACHE
    with ExitStack() as inner:
        if _mount("--bind", path, path, stack=inner):
            _mount("-o", "remount,ro,bind", path, stack=None)
        else:
            path.chmod(0o500)
            inner.callback(path.chmod, 0o700)
        failed = sh(folder, RUN, check=False)
    return _failure(failed, "Read-only file system", "Permission denied")


def _failure(done: subprocess.CompletedProcess[str], *messages: str) -> str:
    """What a run that had to fail said of it; nothing where its logs could not be written."""
    told = done.stdout + done.stderr
    found = [f" with *{message}*" for message in messages if message in told]
    assert done.returncode and (found or not messages), told
    return "fails" + "".join(found[:1])


def _mount(*words: str | Path, stack: ExitStack | None) -> bool:
    """Whether mounting worked; the stack takes it away again."""
    if subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode:
        return False
    if stack is not None:
        stack.callback(subprocess.run, ["umount", "--lazy", str(words[-1])], check=True)
    return True


def corrupt_object(folder: Path, _stack: ExitStack) -> str:
    """A result is missing and its copy in the cache has other bytes, of the same length."""
    target = folder / "runs/chex/train/0.json"
    content = target.read_bytes()
    target.unlink()
    (copy,) = [path for path in _objects(folder) if path.read_bytes() == content]
    copy.chmod(0o644)
    copy.write_bytes(b"9" * len(content))
    copy.chmod(0o444)
    return "nothing: `dvc checkout` would restore it as it is"


def lock_file(edit: Callable[[str], str]) -> Inject:
    """A lock file is not what the engine wrote."""

    def inject(folder: Path, _stack: ExitStack) -> str:
        path = folder / LOCK
        path.write_text(edit(path.read_text()))
        return "nothing"

    return inject


def clock(folder: Path, _stack: ExitStack) -> str:
    """All that an earlier run wrote is from tomorrow, and a paper is to be made again."""
    tomorrow = time.time() + 86400
    for path in folder.rglob("*"):
        if ".git/" not in f"{path}/" and not path.is_symlink():
            os.utime(path, (tomorrow, tomorrow))
    (folder / LOCK).unlink()
    shutil.rmtree(folder / CACHE / "runs")
    shutil.rmtree(folder / "runs/chex")
    return "files from a time to come"


def terminate(folder: Path, _stack: ExitStack) -> str:
    """SIGTERM to every process while a stage runs that takes longer than the grace."""
    (folder / "steps").write_text("600")
    process = start(folder, RUN)
    wait_for((folder / "started").exists)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGTERM)
    wait_for(lambda: no_processes(folder), seconds=30)
    process.communicate()
    (folder / "steps").unlink()
    assert max(int(state.read_text()) for state in (folder / "runs/.scratch").iterdir()) > 4
    return "the stage saves its state, all processes end by themselves"


def two_at_once(folder: Path, _stack: ExitStack) -> str:
    """Two pipelines start in one clone at the same moment."""
    pair = [start(folder, RUN) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in pair]
    assert sorted(process.returncode for process in pair) == [0, 1], told
    assert any("another snakemake run is at work" in text for text in told)
    return "one of them ends with *another snakemake run is at work in this folder*"


def damaged(what: str, edit: Callable[[str], str], **expected: str) -> Fault:
    """A lock file that is not what the engine wrote."""
    return Fault(f"a `dvc.lock` {what}", lock_file(edit), finished=True, edits=True, **expected)


KILLS = range(1, 14)  # of each moment
LATENCY, REMEMBERED = 0.002, 3.0  # seconds
ADVISED = {"advice": f"`git checkout -- {LOCK}`", "remedy": f"git checkout -- {LOCK}"}
FAULTS = {
    **{f"kill {moment}": killed(moment, 0) for moment in MOMENTS},
    "full cache": Fault("no space is left for DVC's cache", full_disk(CACHE, "No space left on device", "File too large")),
    "full runs": Fault("no space is left for results and logs", full_disk("runs")),
    "read-only cache": Fault("DVC's cache is read-only", read_only_cache),
    "corrupt object": Fault("a missing result's copy in DVC's cache has other bytes", corrupt_object, True, destroys=True),
    "cut lock": damaged("cut off in the middle", lambda text: text[: len(text) // 2]),
    "conflict in lock": damaged("with the marks of a merge", lambda text: f"<<<<<<< a\n{text}=======\n>>>>>>> b\n", **ADVISED),
    "empty lock": damaged("that is empty", lambda _: "", **ADVISED),
    "clock": Fault("the clock jumps back by a day, and a paper is to be made again", clock, True, destroys=True),
    "terminate": Fault("SIGTERM to all processes, 30 seconds before the machine goes down", terminate),
    "network": Fault(
        f"`kill -9` on a simulated network folder: {LATENCY * 1000:g} ms a call, names and attributes believed for {REMEMBERED:g} s",
        network(LATENCY, REMEMBERED),
        possible=possible(),
    ),
    "two at once": Fault("two pipelines start at once in one clone", two_at_once),
}
