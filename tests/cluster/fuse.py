"""The kernel's protocol for file systems of user programs (linux/fuse.h, version 7): requests in, replies out.

Written out here, since it is short, so that a simulated network folder needs neither a library nor a package: root and
/dev/fuse are enough.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from errno import EINTR, ENODEV, ENOENT, ENOSYS
from pathlib import Path
from threading import Thread
from typing import Any

HEADER, REPLY = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<6Q10I")
WRITTEN = 1 << 17  # bytes of one write request at most
NO_REPLY = {2, 36, 42}  # FORGET, INTERRUPT, BATCH_FORGET
INVALIDATE = 2  # a notification: forget what is known of a file's attributes
OPERATIONS = {
    1: "lookup", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink", 8: "mknod", 9: "mkdir", 10: "unlink", 11: "rmdir", 12: "rename",
    13: "link", 14: "open", 15: "read", 16: "write", 17: "statfs", 18: "release", 20: "fsync", 26: "init", 27: "opendir",
    28: "readdir", 29: "release", 35: "create", 45: "rename2",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request: its number, the file it is about, and its arguments as bytes."""

    unique: int
    node: int
    body: bytes

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """The arguments' numbers."""
        return struct.unpack_from("<" + layout, self.body)

    def names(self, start: int = 0) -> list[bytes]:
        """The arguments' names, after `start` bytes."""
        return self.body[start:].split(b"\0")[:-1]


def attributes(of: os.stat_result) -> bytes:
    """A file's attributes as the kernel wants them."""
    times = (of.st_atime_ns, of.st_mtime_ns, of.st_ctime_ns)
    seconds, rest = zip(*(divmod(time, 10**9) for time in times))
    numbers = (of.st_mode, of.st_nlink, of.st_uid, of.st_gid, of.st_rdev, of.st_blksize, 0)
    return ATTRIBUTES.pack(of.st_ino, of.st_size, of.st_blocks, *seconds, *rest, *numbers)


def entry(number: int, offset: int, kind: int, name: bytes) -> bytes:
    """One name of a folder's list."""
    text = struct.pack("<QQII", number, offset, len(name), kind) + name
    return text + b"\0" * (-len(text) % 8)


def init(request: Request) -> bytes:
    """Agree on the protocol; of all that the kernel offers nothing but large writes is taken, so that locks are its own."""
    _, minor, ahead = request.unpack("III")
    return struct.pack("<4I2H2I2H8I", 7, min(minor, 31), ahead, 1 << 5, 12, 10, WRITTEN, 1, 0, 0, *[0] * 8)


def mount(folder: Path) -> int:
    """Mount on `folder`; returns the descriptor through which the kernel asks. Needs root."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    words = ["mount", "-i", "-t", "fuse", "-o", options, "network", str(folder)]
    subprocess.run(words, check=True, pass_fds=[device], capture_output=True)
    return device


def serve(device: int, answer: Callable[[str, Request], bytes], threads: int = 8) -> None:
    """Answer the kernel's requests, so many at a time, until the folder is unmounted."""
    workers = [Thread(target=_work, args=(device, answer)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _work(device: int, answer: Callable[[str, Request], bytes]) -> None:
    while True:
        try:
            data = os.read(device, WRITTEN + 4096)
        except OSError as error:
            if error.errno == ENODEV:
                return
            if error.errno in (EINTR, ENOENT):  # ENOENT: the one who asked was killed meanwhile
                continue
            raise
        _, code, unique, node, *_ = HEADER.unpack_from(data)
        if code in NO_REPLY:
            continue
        request = Request(unique, node, data[HEADER.size :])
        content, failed = b"", ENOSYS if code not in OPERATIONS else 0
        try:
            if not failed:
                content = init(request) if OPERATIONS[code] == "init" else answer(OPERATIONS[code], request)
        except OSError as error:
            failed = error.errno
        _send(device, unique, -failed, content)


def forget(device: int, node: int) -> None:
    """Have the kernel ask anew for the attributes of a file."""
    _send(device, 0, INVALIDATE, struct.pack("<Qqq", node, -1, 0))


def _send(device: int, unique: int, code: int, content: bytes) -> None:
    try:
        os.write(device, REPLY.pack(REPLY.size + len(content), code, unique) + content)
    except OSError as error:
        if error.errno not in (ENOENT, ENODEV):  # the one who asked is gone, or the kernel does not know the file
            raise
