"""The generic profile with a stand-in for a site's submit command.

There is no PBS or LSF here: the stand-in starts the script that Snakemake hands over in the background and prints a number.
What is tried is what our side does: what it submits and asks for, how jobs find their plan, what is committed.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cluster.toy import simulated, write_cluster_toy
from tests.workflow.toy import clean, executed, sh
from workflow.engine.commandline import _unlimited

STAND_IN = """#!/bin/sh
echo "$1" >> submitted
env -u REPRISE_PLAN nohup sh "$2" > /dev/null 2>&1 &
echo $!
"""
ASKED = "'{rule} {threads} {resources.mem_mb} {resources.runtime} {resources.gpu}'"


@pytest.mark.slow
def test_jobs_are_packed_and_commit_what_a_local_run_commits(tmp_path: Path) -> None:
    here, there = (write_cluster_toy(tmp_path / name, seeds=(0,)) for name in ("local", "there"))
    (there / "submit.sh").write_text(STAND_IN)
    (there / "submit.sh").chmod(0o755)
    gpus = simulated(tmp_path)
    sh(here, "snakemake --cores 2", **gpus)
    quick = "--latency-wait 10 --seconds-between-status-checks 1 --max-status-checks-per-second 10"
    sh(
        there,
        f'snakemake --profile profiles/cluster-generic --cluster-generic-submit-cmd "./submit.sh {ASKED}" {quick}',
        **gpus,
    )
    assert executed(there) == executed(here)
    for lock in (path.relative_to(here) for path in here.rglob("dvc.lock")):
        assert (there / lock).read_bytes() == (here / lock).read_bytes(), lock
    assert clean(there)
    # A paper's two prunings are one submission, one after the other; what takes a minute stays here.
    wanted = ["GROUP 1 200 10 0", "GROUP 1 200 10 0", "chex_train 1 300 30 1", "dcp_train 1 300 30 1"]
    assert sorted((there / "submitted").read_text().splitlines()) == wanted


def test_all_ready_jobs_are_offered_to_a_cluster_at_once() -> None:
    """SLURM's plugin forgets what it was given of a rule while more of it is ready, and the run never ends."""
    limit = SimpleNamespace(max_jobs=100, timespan=1)
    args = SimpleNamespace(executor="slurm", scheduler_subsample=20, max_jobs_per_timespan=limit)
    _unlimited(args)
    assert (args.scheduler_subsample, args.max_jobs_per_timespan) == (None, None)
