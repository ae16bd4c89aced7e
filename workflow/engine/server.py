"""Warm start: one process that has imported the heavy libraries forks every job of a run.

Importing torch and DVC costs seconds, a fork milliseconds. The server keeps to one thread, runs no tensor
operation before a fork (thread pools do not survive one) and imports none of the project's own modules, so a
job always runs the code on disk. It ends when the pipe from the Snakemake process closes, however that ends.

    python -m workflow.engine.server SOCKET_FD PLAN PIPE_FD
"""

from __future__ import annotations

import array
import contextlib
import importlib
import importlib.util
import json
import os
import py_compile
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow.engine.child import run_child
from workflow.engine.declarations import Declarations
from workflow.engine.job import Job, JobError, load_plan
from workflow.engine.repository import open_repo

GRACE = 30.0  # seconds between SIGTERM and SIGKILL, enough for a stage to save its resumable state
PRELOAD = (
    "numpy,torch,hydra,omegaconf,pandas,safetensors.torch,tqdm,hydra.core.override_parser.overrides_parser,"
    "torch.utils.flop_counter"
)
# What some stages need costs seconds to import: worth it where many jobs are to run (_dynamo: to count on the meta device).
MANY, MORE = 30, "scipy.stats,seaborn,torch._dynamo"


@dataclass
class Running:
    """A connected client and, once it is started, its child process."""

    connection: socket.socket
    buffer: bytes = b""
    streams: list[int] = field(default_factory=list)
    job: Job | None = None
    pid: int = 0
    deadline: float = 0.0


@dataclass(frozen=True)
class Request:
    """A stage's address and the environment in which a client asks for it."""

    address: str
    environment: dict[str, str]


def request(message: bytes) -> Request:
    """What client.py sent: the address and the entries NAME=VALUE of its environment, with zero bytes between them."""
    address, *entries = map(os.fsdecode, message.split(b"\0"))
    return Request(address, dict(entry.split("=", 1) for entry in entries))


class Server:
    """A single-threaded loop over clients, children and the parent's pipe."""

    def __init__(self, listener: int, plan: Path, pipe: int) -> None:
        self.declarations = Declarations(open_repo())
        self.records, self.order = load_plan(plan, self.declarations.repo.root_dir)
        self.selector = selectors.DefaultSelector()
        self.clients: dict[int, Running] = {}
        self.closing = False
        self.listener = socket.socket(fileno=listener)
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._close())  # a machine that shuts down sends it to everyone
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the clients, whose end reaches us
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self.selector.register(wake_read, selectors.EVENT_READ, lambda: os.read(wake_read, 4096))
        self.selector.register(pipe, selectors.EVENT_READ, lambda: self._parent(pipe))

    def serve(self) -> None:
        """Run until the parent is gone and no child is left."""
        while not self.closing or any(client.pid for client in self.clients.values()):
            for key, _ in self.selector.select(timeout=1.0):
                key.data()
            self._reap()
            self._kill_overdue()

    def _parent(self, pipe: int) -> None:
        if os.read(pipe, 1):
            return
        self.selector.unregister(pipe)
        self._close()

    def _close(self) -> None:
        """Take no more jobs and give the children the time to save their state."""
        if not self.closing:
            self.closing = True
            self.selector.unregister(self.listener)
            self.listener.close()
            for client in list(self.clients.values()):
                self._stop(client)

    def _accept(self) -> None:
        if self.closing:
            return
        connection, _ = self.listener.accept()
        client = Running(connection)
        self.clients[connection.fileno()] = client
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: Running) -> None:
        """Collect a request; a client that hangs up (killed, Ctrl-C) stops its child."""
        size = array.array("i").itemsize * 3
        data, ancillary, _, _ = client.connection.recvmsg(65536, socket.CMSG_SPACE(size))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                client.streams = list(array.array("i", content[: len(content) // 4 * 4]))
        if not data:
            self._stop(client)
            return
        client.buffer += data
        if len(client.buffer) >= 4 and len(client.buffer) - 4 == int.from_bytes(client.buffer[:4], "big"):
            self._start(client, request(client.buffer[4:]))

    def _start(self, client: Running, asked: Request) -> None:
        address = asked.address
        with contextlib.suppress(OSError):
            client.connection.sendall(b"+")
        try:
            with redirected(client.streams):
                client.job = Job(self.declarations, address, self.records[address], self.order)
                if client.job.begin():
                    self._answer(client, 0)
                    return
        except Exception as error:
            self._fail(client, error)
            return
        client.pid = os.fork()
        if client.pid == 0:
            self._become(client, asked)
        os.setpgid(client.pid, client.pid)

    def _become(self, client: Running, asked: Request) -> None:
        """In the child: let go of everything that is the server's, then run the command. Never returns."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for other in self.clients.values():
            other.connection.close()
        self.listener.close()
        self.selector.close()
        run_child(client.job.planned["cmd"], client.streams, asked.environment)

    def _reap(self) -> None:
        for client in list(self.clients.values()):
            if not client.pid:
                continue
            pid, status, usage = os.wait4(client.pid, os.WNOHANG)
            if not pid:
                continue
            client.pid = 0
            code = os.waitstatus_to_exitcode(status)
            try:
                with redirected(client.streams):
                    client.job.finish(code, usage.ru_utime + usage.ru_stime)
                self._answer(client, 0)
            except Exception as error:
                self._fail(client, error)

    def _fail(self, client: Running, error: Exception) -> None:
        """Report on the client's own standard error; anything but a JobError is a defect and says so."""
        kind = "" if isinstance(error, JobError) else f"{type(error).__name__}: "
        with contextlib.suppress(OSError):
            os.write(client.streams[2], f"error: {kind}{error}\n".encode())
        self._answer(client, 1)

    def _answer(self, client: Running, code: int) -> None:
        with contextlib.suppress(OSError):
            client.connection.sendall(str(code).encode())
        self._forget(client)

    def _forget(self, client: Running) -> None:
        self.clients.pop(client.connection.fileno(), None)
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(client.connection)
        client.connection.close()
        for stream in client.streams:
            os.close(stream)
        client.streams = []

    def _stop(self, client: Running) -> None:
        """Ask a child to end; without one, forget the client."""
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(client.connection)
        if not client.pid:
            self._forget(client)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGTERM)
        client.deadline = time.monotonic() + GRACE

    def _kill_overdue(self) -> None:
        for client in self.clients.values():
            if client.pid and client.deadline and time.monotonic() > client.deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(client.pid, signal.SIGKILL)


@contextlib.contextmanager
def redirected(streams: list[int]) -> Any:
    """Send this process's standard output and error to a client's for a moment (the job's log)."""
    if len(streams) < 3:
        raise JobError("the client sent no standard streams")
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    os.dup2(streams[1], 1)
    os.dup2(streams[2], 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), saved, strict=True):
            os.dup2(old, number)
            os.close(old)


def preload(plan: Path) -> None:
    """Import what stages need, once for all jobs (REPRISE_PRELOAD names other modules); what is not installed is left out."""
    names = os.environ.get("REPRISE_PRELOAD", "auto")
    if names == "auto":
        jobs = sum(record["state"] == "run" for record in json.loads(plan.read_text()).values())
        names = f"{PRELOAD},{MORE}" if jobs >= MANY else PRELOAD
    for name in names.split(","):
        with contextlib.suppress(ImportError, ValueError):
            importlib.import_module(name)
    if "hydra" in names.split(","):
        with contextlib.suppress(ImportError):
            parse_once()


def compile_stages() -> None:
    """Compile the project's modules once for all jobs, also where imports may not (PYTHONDONTWRITEBYTECODE, as in containers).

    Python compares such a file with the hash of the source, not with its time: a job runs the code on disk.
    """
    for source in Path("stages").rglob("*.py"):
        if not os.path.exists(importlib.util.cache_from_source(source)):
            with contextlib.suppress(OSError, py_compile.PyCompileError):  # the job that imports it says what is wrong
                py_compile.compile(str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)


def parse_once() -> None:
    """Have the grammar of command lines build the tables that it builds when it first reads such words."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    OverridesParser.create().parse_overrides(["scale=small", "arm=dcp_30", "seed=5", "rate=.5", "datasets=a+b"])


def keep_to_one_thread() -> None:
    """A progress bar of DVC's starts a thread that looks after bars, for as long as the process lives."""
    import tqdm

    tqdm.tqdm.monitor_interval = 0


def main() -> None:
    """Serve one Snakemake run."""
    listener, plan, pipe = sys.argv[1:4]
    keep_to_one_thread()
    preload(Path(plan))
    compile_stages()
    Server(int(listener), Path(plan), int(pipe)).serve()


if __name__ == "__main__":
    main()
