"""Open the DVC repository, and hold its lock fairly."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.repo import Repo

# Importing DVC is most of a small job's cost, so nothing here imports it before it is needed.
os.environ.setdefault("DVC_NO_ANALYTICS", "1")


def open_repo(root: str | Path = ".") -> Repo:
    """Open the repository at `root`; waits for DVC's lock instead of failing after three seconds."""
    from dvc.repo import Repo

    repo = Repo(str(root), _wait_for_lock=True)
    repo.lock._friendly = False  # its progress bar would litter the job logs
    return repo


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
            yield
