"""The pipeline through a real SLURM of one node: a local run's lock files, few submissions, a device a job, preemption."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import node
from tests.cluster.toy import simulated, write_cluster_toy
from tests.workflow.toy import clean, environment, executed, sh

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(node.missing()), reason=node.missing())]

# This node's: seconds between looks instead of a minute. And what would make SLURM's plugin wait for ever if it were obeyed.
QUICK = "--latency-wait 20 --slurm-init-seconds-before-status-checks 2 --scheduler-subsample 1"
COMMAND = f"snakemake --profile profiles/slurm {QUICK}"


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with node.node(tmp_path_factory.mktemp("slurm")):
        yield


def jobs() -> list[dict[str, str]]:
    """All jobs that SLURM has seen, by the names that scontrol gives their properties."""
    listed = subprocess.run(["scontrol", "show", "job", "-o"], capture_output=True, text=True, check=True).stdout
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in listed.splitlines() if "JobId=" in line]


def test_same_locks_as_a_local_run_with_few_submissions_and_a_device_a_job(tmp_path: Path) -> None:
    here, there = (write_cluster_toy(tmp_path / name, arms=("l1",)) for name in ("local", "slurm"))
    sh(here, "snakemake --cores 2", **simulated(tmp_path))
    sh(there, COMMAND)
    assert executed(there) == executed(here)
    for lock in (path.relative_to(here) for path in here.rglob("dvc.lock")):
        assert (there / lock).read_bytes() == (here / lock).read_bytes(), lock
    assert (there / "reports/table.md").read_bytes() == (here / "reports/table.md").read_bytes()
    assert clean(there)
    seen = jobs()
    arrays = {job["ArrayJobId"] for job in seen if "ArrayJobId" in job}
    asked = [(job["TimeLimit"], job["MinMemoryNode"], job["NumCPUs"], job.get("TresPerJob", "")) for job in seen]
    train, pack = ("00:30:00", "301M", "1", "gres:gpu:1"), ("00:10:00", "200M", "1", "")
    assert len(arrays) == 2
    assert sorted(asked) == [pack] * 2 + [train] * 4  # 301: the plugin adds what it needs for itself in an array


def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    """A job of higher rank takes the whole node; the training saves its state, waits and resumes."""
    folder = write_cluster_toy(tmp_path / "repo", seeds=(0,))
    (folder / "steps").write_text("60")
    command = f"{COMMAND} runs/chex/train/0.json"
    process = subprocess.Popen(
        command.split(), cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    started = folder / "started"
    deadline = time.monotonic() + 120
    while not started.exists():
        assert time.monotonic() < deadline, process.stdout.read1().decode()
        time.sleep(0.2)
    subprocess.run(["sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"], check=True)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    first, second = (int(line.split()[2]) for line in started.read_text().splitlines())
    assert first == 0 < second < 60
    assert (folder / "stages/papers/chex/dvc.lock").read_text().count("train@0") == 1
    assert "1" in {job["Restarts"] for job in jobs()}
