"""Open the DVC repository, hold its lock fairly, and wait for other DVC commands."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

T = TypeVar("T")

# Importing DVC is most of a small job's cost, so nothing here imports it before it is needed.
os.environ.setdefault("DVC_NO_ANALYTICS", "1")


def open_repo(root: str | Path = ".") -> Repo:
    """Open the repository at `root`; waits for DVC's lock instead of failing after three seconds."""
    from dvc.repo import Repo

    repo = Repo(str(root), _wait_for_lock=True)
    repo.lock._friendly = False  # its progress bar would litter the job logs
    _remember_tracked(repo)
    return repo


def _remember_tracked(repo: Repo) -> None:
    """Have DVC read git's index once and when it was replaced, not for every output that it saves."""
    from scmrepo.git import Git

    scm = repo.scm
    if not isinstance(scm, Git):
        return
    known: dict[tuple[int, int, int] | None, set[str]] = {}

    def is_tracked(path: str) -> bool:
        state = _state(Path(scm.dulwich.repo.index_path()))
        if state not in known:
            known.clear()
            files = [name.decode(errors="surrogateescape") for name in scm.dulwich.repo.open_index()]
            known[state] = {*files, *(str(folder) for file in files for folder in PurePosixPath(file).parents)}
        return Path(os.path.relpath(path, scm.root_dir)).as_posix() in known[state]

    scm.is_tracked = is_tracked


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@contextmanager
def repository_lock(repo: Repo) -> Iterator[None]:
    """Hold the repository lock.

    DVC polls its lock every half second, so under load a waiting job may starve: a blocking fcntl lock in
    front makes a queue of our own processes, and only its head polls.
    """
    queue = Path(repo.tmp_dir) / "engine.lock"
    with queue.open("a") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX)
        with repo.lock:
            _drop_torn_rwlock(Path(repo.tmp_dir) / "rwlock")
            yield


def _drop_torn_rwlock(path: Path) -> None:
    """Remove DVC's list of files in use if a process was killed while it wrote it.

    DVC writes it in place and refuses to work with half a list. All who write it hold the repository lock, as the caller
    does, so half a list is nobody's work in progress; what it said of processes that still run is lost either way.
    """
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError:
        print(f"{path}: cut off when a process was killed; removed", file=sys.stderr, flush=True)
        path.unlink(missing_ok=True)


def locked(repo: Repo, step: Callable[[], T]) -> T:
    """Result of `step`, called under the repository lock, again until no other DVC command uses its files.

    `dvc repro` holds a stage's files, but not the repository, while the stage's command runs; to end, it needs
    the repository, so that waiting must happen outside of the lock. `step` may run several times.
    """
    from dvc.lock import LockError

    said = False
    while True:
        try:
            with repository_lock(repo):
                return step()
        except LockError as error:
            if not said:
                print(f"waiting for another dvc command: {error}".split("\n\n")[0], file=sys.stderr, flush=True)
            said = True
            time.sleep(0.2)


def refuse_files_in_use(repo: Repo) -> None:
    """Call before a plan that jobs will follow: Snakemake deletes what a job is to make before the job can ask DVC for it.

    Raises:
        LockError: a `dvc repro` is at work on a stage; what it has made may not be recorded yet.
    """
    from dvc.lock import LockError

    path = Path(repo.tmp_dir) / "rwlock"
    owners = json.loads(path.read_text(encoding="utf-8")).get("write", {}) if path.exists() else {}
    for file, owner in owners.items():
        if owner["pid"] != os.getpid() and _runs(owner["pid"], owner["cmd"]):
            raise LockError(f"'{file}' is being made by (PID {owner['pid']}): {owner['cmd']}")


def _runs(pid: int, command: str) -> bool:
    """Whether a process of this number runs the command; another host's, or a dead one's, may be anything here.

    DVC notes the words of Python's sys.argv; the first is not what the process was called by after `python -m dvc`.
    """
    import psutil

    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    program, _, arguments = command.partition(" ")
    return " ".join(words).endswith(arguments or program)


def in_run_cache(stage: Stage) -> bool:
    """Whether the run-cache has an entry for the stage, whose dependencies are saved.

    A folder that a kill left empty is removed: DVC takes its first file without a look.
    """
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    cache = stage.repo.stage_cache
    folder = Path(cache._get_cache_dir(_get_cache_hash(to_single_stage_lockfile(stage), key=True)))
    if not folder.exists():
        return False
    if any(folder.iterdir()):
        return True
    folder.rmdir()
    return False


def drop_corrupted(stage: Stage) -> bool:
    """Whether cached objects of the stage's outputs are gone or have other bytes than their names say; these are removed.

    DVC does not look into an object that is read-only, so that it would restore those bytes as if they were the result.
    """
    from dvc_data.hashfile.hash import hash_file

    cache = stage.repo.cache.local
    found = False
    for out in (out for out in stage.outs if out.use_cache):
        for oid in (out.hash_info.value, *(entry.value for _, _, entry in (out.get_obj() if out.hash_info.isdir else ()))):
            path = Path(cache.oid_to_path(oid))
            if not path.exists():
                found = True
            elif hash_file(str(path), cache.fs, "md5")[1].value != oid.removesuffix(".dir"):
                print(f"{stage.addressing}: {path} is corrupted; removed", file=sys.stderr, flush=True)
                path.unlink()
                found = True
    return found
