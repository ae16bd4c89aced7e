"""The forked half of a warm start: become the stage's command."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import runpy
import shlex
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import NoReturn

from workflow.engine import devices

SHELL_SYNTAX = set("|&;<>()$`\\\"'*?[#~=%!{}\n")
PR_SET_PDEATHSIG = 1


def python_script(cmd: str) -> list[str] | None:
    """Words of a command of the form `python script.py key=value ...`; None if it needs a shell.

    `=` is harmless after the first word, which must not be an assignment.
    """
    if set(cmd) - {"="} & SHELL_SYNTAX:
        return None
    words = shlex.split(cmd)
    if len(words) < 2 or words[0] not in ("python", "python3") or not words[1].endswith(".py"):
        return None
    return words[1:]


def processes(leases: list[int]) -> int:
    """How many processes compute a stage together: REPRISE_PROCESSES, or one for each GPU that the job has leased."""
    return int(os.environ.get("REPRISE_PROCESSES", 0)) or max(1, len(leases))


def in_parallel(cmd: str, count: int) -> list[str] | None:
    """The words by which `torchrun` starts a stage; None where one process is to compute it, or it is no stage's script."""
    words = python_script(cmd)
    if count < 2 or words is None or not words[0].startswith("stages/"):
        return None
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun sets it too and warns; a stage sets its own threads
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return [*launcher, *words]


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the server dies (Linux; elsewhere the stage runs to its end)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def run_child(cmd: str, streams: list[int], environment: Mapping[str, str]) -> NoReturn:
    """Run `cmd` in this freshly forked process, with the client's streams and environment, and exit."""
    code = 1
    try:
        os.setpgid(0, 0)
        die_with_parent(os.getppid())
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.environ.clear()
        os.environ.update(environment)
        together = in_parallel(cmd, processes(devices.take()))
        print(f"> {cmd}", flush=True)
        words = python_script(cmd)
        if together:
            os.execv(together[0], together)
        if words is None:
            os.execv("/bin/sh", ["/bin/sh", "-c", cmd])
        code = run_script(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_script(words: list[str]) -> int:
    """Run a script as `python script.py ...` would; returns its exit code."""
    gc.freeze()  # spare the collector the thousands of objects shared with the server
    atexit._clear()  # the server's handlers are not this process's
    sys.argv = words
    sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    finally:
        atexit._run_exitfuncs()
    return 0
