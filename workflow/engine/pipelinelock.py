"""One pipeline at a time in a clone, by a lock that dies with its process.

Snakemake's own lock survives a kill and then wants `--unlock`; the profile switches it off in favour of this one.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import TextIO

_held: list[TextIO] = []  # kept open as long as the process lives


def hold_pipeline(folder: Path) -> None:
    """Take the pipeline lock, or exit with one line that names the process that has it."""
    if _held:
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = (folder / "pipeline.lock").open("a+")
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        sys.exit(f"error: another snakemake run is at work in this folder (process {holder}); wait for it or stop it")
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    _held.append(handle)
