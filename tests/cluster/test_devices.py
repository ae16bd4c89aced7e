"""A job's own GPU, on simulated devices: names that are nobody's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.toy import simulated
from tests.workflow.toy import ROOT
from workflow.engine import devices

# Says which device it has, and keeps it until its standard input is closed.
JOB = """
import os, subprocess, sys
from workflow.engine import devices
leases = devices.take()
if "child" in sys.argv:
    print(subprocess.Popen(["sleep", "60"], pass_fds=leases, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).pid)
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def job(environment: dict[str, str], *words: str, **extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", JOB, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "REPRISE_GPUS": "1", **environment, **extra},
    )


def test_two_jobs_have_two_devices_and_a_third_waits(tmp_path: Path) -> None:
    first, second = (job(simulated(tmp_path)) for _ in range(2))
    had = [process.stdout.readline() for process in (first, second)]
    assert len(set(had)) == 2
    third = job(simulated(tmp_path))
    assert "waiting for 1 of the GPUs" in third.stderr.readline()
    first.communicate()
    assert third.stdout.readline() == had[0]
    for process in (second, third):
        process.communicate()


def test_a_dead_jobs_device_is_free_unless_its_stage_lives_on(tmp_path: Path) -> None:
    one = {"CUDA_VISIBLE_DEVICES": simulated(tmp_path)["CUDA_VISIBLE_DEVICES"].split(",")[0]}
    killed = job(one)
    killed.stdout.readline()
    killed.kill()
    killed.wait()
    widowing = job(one, "child")
    child = int(widowing.stdout.readline())
    widowing.kill()
    widowing.wait()
    last = job(one)
    assert "waiting" in last.stderr.readline()
    os.kill(child, signal.SIGKILL)
    assert last.stdout.readline().strip() == one["CUDA_VISIBLE_DEVICES"]
    last.communicate()


def test_devices_are_shared_where_that_is_asked_for(tmp_path: Path) -> None:
    one = {"CUDA_VISIBLE_DEVICES": simulated(tmp_path)["CUDA_VISIBLE_DEVICES"].split(",")[0]}
    pair = [job(one, REPRISE_GPU_SHARE="2") for _ in range(2)]
    assert pair[0].stdout.readline() == pair[1].stdout.readline() != ""
    for process in pair:
        process.communicate()


def test_devices_of_two_allocations_are_different_ones(tmp_path: Path) -> None:
    pair = [job(simulated(tmp_path), REPRISE_GPUS="2", SLURM_JOB_ID=f"{tmp_path}{number}") for number in range(2)]
    assert pair[0].stdout.readline() == pair[1].stdout.readline() == simulated(tmp_path)["CUDA_VISIBLE_DEVICES"] + "\n"
    for process in pair:
        process.communicate()


def test_too_many_are_refused_and_none_is_left_to_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRISE_GPUS", "2")
    monkeypatch.setenv(devices.VISIBLE, "0")
    with pytest.raises(devices.DeviceError, match="2 GPUs are asked for and 1 visible"):
        devices.take()
    monkeypatch.setenv(devices.VISIBLE, "")
    assert devices.take() == []
