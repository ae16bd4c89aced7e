"""The generic profile with a stand-in for a site's submit command.

There is no PBS or LSF here: the stand-in starts the script that Snakemake hands over in the background and prints a number.
What is tried is what our side does: what it submits and how much of it, how jobs find their plan, what is committed.
"""

from pathlib import Path

from tests.workflow.toy import clean, executed, sh, write_toy

STAND_IN = """#!/bin/sh
echo "$@" >> submitted
env -u REPRISE_PLAN nohup sh "$1" > /dev/null 2>&1 &
echo $!
"""


def test_jobs_are_packed_and_commit_what_a_local_run_commits(tmp_path: Path) -> None:
    here, there = (write_toy(tmp_path / name) for name in ("local", "there"))
    (there / "submit.sh").write_text(STAND_IN)
    (there / "submit.sh").chmod(0o755)
    sh(here, "snakemake --cores 2")
    submit = f"--cluster-generic-submit-cmd {there}/submit.sh --latency-wait 10 --seconds-between-status-checks 1"
    sh(there, f"snakemake --profile profiles/cluster-generic {submit}")
    assert executed(there) == executed(here)
    for lock in (path.relative_to(here) for path in here.rglob("dvc.lock")):
        assert (there / lock).read_bytes() == (here / lock).read_bytes(), lock
    assert clean(there)
    # Two rules of training, two of pruning, two gatherings and the report, not 15 jobs; preparing takes a minute and stays here.
    assert len((there / "submitted").read_text().splitlines()) == 7
