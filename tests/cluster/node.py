"""A single-node SLURM on loopback, for tests: started by hand, without systemd or accounting, and stopped by its process ids.

apt-get install slurmctld slurmd slurm-client munge
python -m tests.cluster.node start /tmp/slurm        (as root; slurm.conf is linked from /etc/slurm)
python -m tests.cluster.node stop /tmp/slurm
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch")
CONFIG = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf")
# A requeued job waits until its credential expired, two minutes unless said otherwise.
TEMPLATE = """
ClusterName=reprise
SlurmctldHost={host}(127.0.0.1)
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=01:00:00 PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} MaxTime=01:00:00 PriorityTier=2 State=UP
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
MinJobAge=3600
KillWait=30
MailProg=/bin/true
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
"""


def missing() -> str:
    """Why no node can be started here, in words; empty if one can."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install slurmctld slurmd slurm-client munge"
    if os.geteuid():
        return "needs root: SLURM's own jobs read /etc/slurm/slurm.conf"
    if any((CONFIG / name).exists() and not (CONFIG / name).is_symlink() for name in FILES):
        return f"{CONFIG} has a configuration: this machine belongs to a cluster"
    return ""


def _path() -> str:
    return os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))


@contextmanager
def node(folder: Path) -> Iterator[Path]:
    """A running node with its files in `folder`, stopped at the end."""
    try:
        start(folder)
        yield folder
    finally:
        stop(folder)


def start(folder: Path) -> None:
    """Start munge, the controller and the node; returns when the node is idle.

    Raises:
        RuntimeError: it is not idle within 30 seconds.
    """
    for name in ("spool", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    _configure(folder)
    _run("munged", "--force", *(f"--{name}={folder}/munge.{end}" for name, end in (
        ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))))  # fmt: skip
    _run("slurmctld", "-c")
    _run("slurmd", "-c")
    for _ in range(150):
        if "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout:
            return
        time.sleep(0.2)
    raise RuntimeError(f"SLURM's node is not idle after 30 s; see {folder}/slurmctld.log")


def _configure(folder: Path) -> None:
    """Write the configuration, with two devices that stand in for GPUs, and link it to where SLURM's own jobs look."""
    values = {"host": socket.gethostname(), "cpus": os.cpu_count(), "memory": 4000, "folder": folder}
    (folder / "slurm.conf").write_text(TEMPLATE.format(**values))
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
    for name, device in (("gpu0", "null"), ("gpu1", "zero")):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(Path("/dev", device))
    CONFIG.mkdir(exist_ok=True)
    for name in FILES:
        (CONFIG / name).unlink(missing_ok=True)
        (CONFIG / name).symlink_to(folder / name)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, env={**os.environ, "PATH": _path()})


def stop(folder: Path) -> None:
    """Cancel what runs and end the three daemons."""
    subprocess.run(["scancel", "--user=root"], capture_output=True, check=False)
    for name in ("slurmd", "slurmctld", "munge"):
        file = folder / f"{name}.pid"
        if not file.exists():
            continue
        pid = int(file.read_text())
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.1)
    for name in FILES:
        if (CONFIG / name).is_symlink():
            (CONFIG / name).unlink()


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]](Path(sys.argv[2]).absolute())
