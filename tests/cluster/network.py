"""A simulated network folder: every call takes its time, attributes and names are remembered, locks end at the host.

    python -m tests.cluster.network SERVED FOLDER SECONDS REMEMBERED

Like a network file system's client it asks again about a file when that is opened, gives an error for one that is gone on
the server (the kernel then looks the name up anew), and otherwise believes for REMEMBERED seconds what it was told, that a
name does not exist included. Two mounts of one SERVED folder are two hosts. It ends when FOLDER is unmounted.
"""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL, ENOENT, ESTALE
from pathlib import Path

from tests.cluster.fuse import Request, attributes, entry, forget, mount, serve

MODE, UID, GID, SIZE, ATIME, MTIME = 1, 2, 4, 8, 16, 32  # what a request changes
NOW = {ATIME: 128, MTIME: 256}
ROOT = Path(__file__).resolve().parents[2]


class Network:
    """The folder `served`, as a client sees it.

    A file's number for the kernel is that of the server's inode, as in a network file system's handles, and stays known.
    """

    def __init__(self, device: int, served: Path, seconds: float, remembered: float) -> None:
        self.device = device
        self.seconds = seconds
        whole = int(remembered)
        self.whole, self.rest = whole, int((remembered - whole) * 1e9)
        self.nodes = {1: os.open(served, os.O_PATH)}

    def answer(self, operation: str, request: Request) -> bytes:
        """The reply to a request, after the time that the network takes."""
        time.sleep(self.seconds)
        return getattr(self, operation)(request)

    def path(self, node: int) -> str:
        """A path to a file by its number, whatever its name is by now."""
        return f"/proc/self/fd/{self.nodes[node]}"

    def _name(self, node: int, name: bytes) -> str:
        return f"{self.path(node)}/{os.fsdecode(name)}"

    def _attributes(self, found: os.stat_result) -> bytes:
        return struct.pack("<QII", self.whole, self.rest, 0) + attributes(found)

    def _entry(self, node: int, name: bytes) -> bytes:
        try:
            handle = os.open(self._name(node, name), os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != ENOENT:
                raise
            return struct.pack("<4Q2I", 0, 0, self.whole, 0, self.rest, 0) + bytes(88)  # number 0: remember that it is absent
        found = os.fstat(handle)
        if self.nodes.setdefault(found.st_ino, handle) != handle:
            os.close(handle)
        times = (self.whole, self.whole, self.rest, self.rest)
        return struct.pack("<4Q2I", found.st_ino, 0, *times) + attributes(found)

    def lookup(self, request: Request) -> bytes:
        return self._entry(request.node, request.names()[0])

    def getattr(self, request: Request) -> bytes:
        return self._attributes(os.fstat(self.nodes[request.node]))

    def setattr(self, request: Request) -> bytes:
        valid, _, _, size, _, *rest = request.unpack("II6Q8I")
        atime, mtime, _, atime_rest, mtime_rest, _, mode, _, uid, gid, _ = rest
        path, node = self.path(request.node), self.nodes[request.node]
        if valid & SIZE:
            os.truncate(path, size)
        if valid & MODE:
            os.chmod(path, mode & 0o7777)
        if valid & (UID | GID):
            os.chown(path, uid if valid & UID else -1, gid if valid & GID else -1)
        if valid & (ATIME | MTIME):
            found = os.fstat(node)
            given = {ATIME: atime * 10**9 + atime_rest, MTIME: mtime * 10**9 + mtime_rest}
            old = {ATIME: found.st_atime_ns, MTIME: found.st_mtime_ns}
            wanted = [(time.time_ns() if valid & NOW[bit] else given[bit]) if valid & bit else old[bit] for bit in given]
            os.utime(path, ns=tuple(wanted))
        return self._attributes(os.fstat(node))

    def readlink(self, request: Request) -> bytes:
        return os.readlink(b"", dir_fd=self.nodes[request.node])

    def symlink(self, request: Request) -> bytes:
        name, target = request.names()
        os.symlink(target, self._name(request.node, name))
        return self._entry(request.node, name)

    def mknod(self, request: Request) -> bytes:
        mode, device, umask = request.unpack("III")
        (name,) = request.names(16)
        os.mknod(self._name(request.node, name), mode & ~umask, device)
        return self._entry(request.node, name)

    def mkdir(self, request: Request) -> bytes:
        mode, umask = request.unpack("II")
        (name,) = request.names(8)
        os.mkdir(self._name(request.node, name), mode & ~umask)
        return self._entry(request.node, name)

    def unlink(self, request: Request) -> bytes:
        os.unlink(self._name(request.node, request.names()[0]))
        return b""

    def rmdir(self, request: Request) -> bytes:
        os.rmdir(self._name(request.node, request.names()[0]))
        return b""

    def rename(self, request: Request, start: int = 8) -> bytes:
        (target,) = request.unpack("Q")
        old, new = request.names(start)
        os.rename(self._name(request.node, old), self._name(target, new))
        return b""

    def rename2(self, request: Request) -> bytes:
        if request.unpack("QI")[1]:
            raise OSError(EINVAL, "no such way to rename")
        return self.rename(request, 16)

    def link(self, request: Request) -> bytes:
        (node,) = request.unpack("Q")
        (name,) = request.names(8)
        # With a folder's descriptor Python takes the call that follows the link to the file.
        os.link(self.path(node), self._name(request.node, name), src_dir_fd=self.nodes[1])
        return self._entry(request.node, name)

    def open(self, request: Request) -> bytes:
        flags, _ = request.unpack("II")
        if not os.fstat(self.nodes[request.node]).st_nlink:
            raise OSError(ESTALE, "gone")
        handle = os.open(self.path(request.node), flags & ~(os.O_NOFOLLOW | os.O_APPEND | os.O_CREAT | os.O_EXCL))
        forget(self.device, request.node)
        return struct.pack("<QII", handle, 0, 0)

    opendir = open

    def create(self, request: Request) -> bytes:
        flags, mode, umask, _ = request.unpack("4I")
        (name,) = request.names(16)
        path = self._name(request.node, name)
        handle = os.open(path, (flags & ~os.O_APPEND) | os.O_CREAT | os.O_NOFOLLOW, mode & ~umask)
        return self._entry(request.node, name) + struct.pack("<QII", handle, 0, 0)

    def read(self, request: Request) -> bytes:
        handle, offset, size = request.unpack("QQI")
        return os.pread(handle, size, offset)

    def write(self, request: Request) -> bytes:
        handle, offset, size = request.unpack("QQI")
        return struct.pack("<II", os.pwrite(handle, request.body[40 : 40 + size], offset), 0)

    def readdir(self, request: Request) -> bytes:
        handle, offset, size = request.unpack("QQI")
        text = b""
        for position, item in enumerate(sorted(os.scandir(handle), key=lambda item: item.name)):
            if position >= offset:
                kind = 10 if item.is_symlink() else 4 if item.is_dir() else 8
                found = entry(item.inode(), position + 1, kind, os.fsencode(item.name))
                if len(text) + len(found) > size:
                    break
                text += found
        return text

    def release(self, request: Request) -> bytes:
        os.close(request.unpack("Q")[0])
        return b""

    def fsync(self, request: Request) -> bytes:
        os.fsync(request.unpack("Q")[0])
        return b""

    def statfs(self, request: Request) -> bytes:
        of = os.statvfs(self.path(request.node))
        sizes = (of.f_blocks, of.f_bfree, of.f_bavail, of.f_files, of.f_ffree)
        return struct.pack("<5Q4I", *sizes, of.f_bsize, of.f_namemax, of.f_frsize, 0) + bytes(24)


@contextmanager
def network_folder(served: Path, folder: Path, seconds: float, remembered: float) -> Iterator[None]:
    """`folder` as a client's view of `served`, served by another process until the end. Both exist.

    Raises:
        RuntimeError: it cannot be mounted.
    """
    words = [sys.executable, "-m", "tests.cluster.network", served, folder, seconds, remembered]
    process = subprocess.Popen([str(word) for word in words], cwd=ROOT)
    try:
        while not os.path.ismount(folder):
            if process.poll() is not None:
                raise RuntimeError(f"{folder} cannot be mounted")
            time.sleep(0.02)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
        process.wait(timeout=30)


def possible() -> bool:
    """Whether a folder can be simulated here; it takes root and a kernel that knows FUSE."""
    return os.access("/dev/fuse", os.R_OK | os.W_OK) and os.geteuid() == 0


def main() -> None:
    """Serve one folder."""
    served, folder, seconds, remembered = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every file that was looked at stays open
    source = Path(served).absolute()
    device = mount(Path(folder))
    serve(device, Network(device, source, float(seconds), float(remembered)).answer)


if __name__ == "__main__":
    main()
