"""Which GPUs a job may use: a lease of each, so that no two jobs share one. Snakemake counts GPUs but does not say which.

A lease is a lock on a file of this machine. The kernel drops it when the last process that inherited it ends, however that
ends, so there is no lease of a dead process, and a stage that outlives its killed job keeps its device.

REPRISE_GPUS          how many the job asks for (the Snakefile sets it from the rule's resources, they from `meta:`)
REPRISE_GPU_SHARE     how many jobs may share a device; 1 unless set
CUDA_VISIBLE_DEVICES  the devices to choose from; all if unset. What is chosen is set here for the stage.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

LEASES = Path("/tmp/reprise-gpus")  # of the machine, not of a user or a clone
VISIBLE = "CUDA_VISIBLE_DEVICES"
# A cluster's scheduler sets CUDA_VISIBLE_DEVICES to what it chose, and may call the first device of every allocation 0.
ALLOCATIONS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
_held: list[int] = []  # kept open as long as the process lives


class DeviceError(Exception):
    """More GPUs are asked for than there are; the message is for the user, in one line."""


def take() -> list[int]:
    """Lease the GPUs that this process was asked to use, waiting until they are free; returns the locks to pass to children.

    Where there is no GPU at all the stage sees none, and says itself whether it needs one.

    Raises:
        DeviceError: there will never be so many.
    """
    count = int(os.environ.get("REPRISE_GPUS", 0))
    if count < 1:
        return []
    devices = visible()
    if not devices:
        return []
    if len(devices) < count:
        raise DeviceError(f"{count} GPUs are asked for and {len(devices)} visible ({VISIBLE}={','.join(devices)})")
    chosen = _wait(count, devices)
    os.environ[VISIBLE] = ",".join(chosen)
    _held.extend(chosen.values())
    return list(chosen.values())


def visible() -> list[str]:
    """Names of the devices that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return []


def _wait(count: int, devices: list[str]) -> dict[str, int]:
    """Locks of `count` devices. Too few are given back before the next try, so that two jobs never wait for each other."""
    LEASES.mkdir(exist_ok=True)
    with suppress(PermissionError):  # another user's
        LEASES.chmod(0o1777)
    said = False
    while True:
        chosen: dict[str, int] = {}
        for device in devices:
            lock = _lock(device) if len(chosen) < count else None
            if lock is not None:
                chosen[device] = lock
        if len(chosen) == count:
            return chosen
        for lock in chosen.values():
            os.close(lock)
        if not said:
            print(f"waiting for {count} of the GPUs {','.join(devices)}", file=sys.stderr, flush=True)
        said = True
        time.sleep(0.5)


def _lock(device: str) -> int | None:
    """A lock on one of the device's places, inherited by children; None if all are taken."""
    allocation = next((os.environ[name] for name in ALLOCATIONS if name in os.environ), "")
    for place in range(int(os.environ.get("REPRISE_GPU_SHARE", 1))):
        path = LEASES / f"{allocation}-{device}-{place}".replace("/", "_")
        if not path.exists():
            path.touch()
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        os.set_inheritable(handle, True)
        return handle
    return None
