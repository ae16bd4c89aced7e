"""The pipeline through a real SLURM of one node: the same results and lock files as a local run, few submissions, requeue."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import node
from tests.workflow.toy import clean, environment, executed, sh, write_toy

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(node.missing()), reason=node.missing())]

# What differs from the profile is this node's: seconds between looks instead of a minute.
QUICK = "--latency-wait 20 --slurm-init-seconds-before-status-checks 2 --seconds-between-status-checks 2"
COMMAND = f"snakemake --profile profiles/slurm {QUICK}"


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with node.node(tmp_path_factory.mktemp("slurm")):
        yield


def submitted() -> set[str]:
    """Submissions that SLURM has seen; an array is one."""
    listed = subprocess.run(["squeue", "-h", "-t", "all", "-o", "%F"], capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def test_same_locks_and_results_as_a_local_run_with_few_submissions(tmp_path: Path) -> None:
    seeds = (0, 1, 2)
    here, there = (write_toy(tmp_path / name, seeds=seeds) for name in ("local", "slurm"))
    sh(here, "snakemake --cores 2")
    before = submitted()
    sh(there, COMMAND)
    assert executed(there) == executed(here)
    for lock in (path.relative_to(here) for path in here.rglob("dvc.lock")):
        assert (there / lock).read_bytes() == (here / lock).read_bytes(), lock
    assert (there / "reports/table.md").read_bytes() == (here / "reports/table.md").read_bytes()
    assert clean(there)
    # 2 x 3 trainings, 2 x 6 prunings, 2 gatherings and the report are 21 jobs; what is ready at a time is one array a rule.
    assert len(submitted() - before) <= 14
    assert "othing to be done" in (done := sh(there, COMMAND)).stdout + done.stderr


def test_a_requeued_job_goes_on(tmp_path: Path) -> None:
    """As after a preemption: the job is stopped, queued again and ends; its result is committed once."""
    folder = write_toy(tmp_path / "repo", seeds=(0,), arms=("l1",))
    (folder / "wait").write_text("8")
    before = submitted()
    process = subprocess.Popen(
        COMMAND, cwd=folder, shell=True, env=environment(folder), start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while "train paper=chex" not in (trace := (folder / "trace").read_text() if (folder / "trace").exists() else ""):
            assert time.monotonic() < deadline, trace
            time.sleep(0.3)
        (first,) = [job for job in _running() if job.partition("_")[0] not in before][:1]
        subprocess.run(["scontrol", "requeue", first], check=True)
        subprocess.run(["scontrol", "release", first], check=False, capture_output=True)
        (folder / "wait").write_text("0")
        output, _ = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    started = executed(folder)
    assert len(started) == len(set(started)) + 1  # one of them began twice
    assert clean(folder)
    for lock in folder.rglob("dvc.lock"):
        entries = re.findall(r"^  (\S.*):$", lock.read_text(), re.MULTILINE)
        assert len(entries) == len(set(entries))


def _running() -> list[str]:
    listed = subprocess.run(["squeue", "-h", "-r", "-t", "running", "-o", "%i"], capture_output=True, text=True, check=True)
    return listed.stdout.split()
