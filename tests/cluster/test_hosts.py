"""Two hosts on one shared folder: namespaces with process numbers and host names of their own, jobs of the same lock files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.network import possible
from tests.workflow.toy import ROOT, clean, environment, executed, sh, write_toy
from workflow.engine.lockfile import split_entries
from workflow.engine.plan import make_plan
from workflow.engine.repository import locked, open_repo

FEW, MANY = 2, 34  # seeds, each with three stages of two papers; 34 make 204
HOST = """
import json, sys
from pathlib import Path
from workflow.engine.declarations import Declarations
from workflow.engine.job import Job, load_plan, run_command
from workflow.engine.repository import open_repo

repo = open_repo()
records, order = load_plan(Path("plan.json"), repo.root_dir)
declarations = Declarations(repo)
for address in json.loads(Path(sys.argv[1]).read_text()):
    job = Job(declarations, address, records[address], order)
    if not job.begin():
        job.finish(*run_command(job.planned["cmd"]))
"""
NETWORK = pytest.mark.skipif(not possible(), reason="needs root and /dev/fuse")
LATENCY, REMEMBERED = 0.001, 3.0  # seconds
ISOLATED = ["unshare", "--fork", "--pid", "--mount-proc", "--uts"]


def allowed() -> bool:
    """Whether namespaces may be made here; it takes root."""
    try:
        return subprocess.run([*ISOLATED, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def host(folder: Path, name: str, addresses: list[str], *, network: bool) -> subprocess.Popen[str]:
    """A host that runs these stages one after the other, on the folder itself or on a client's view of it."""
    (folder / f"{name}.json").write_text(json.dumps(addresses))
    command = f"hostname {name} && exec {sys.executable} host.py {name}.json"
    if network:
        (mounted := folder.parent / "mounted").mkdir(exist_ok=True)
        serve = f"cd {ROOT} && exec {sys.executable} -m tests.cluster.network {folder} {mounted} {LATENCY} {REMEMBERED}"
        command = f"({serve}) & until mountpoint -q {mounted}; do sleep 0.05; done; cd {mounted} && {command}"
    return subprocess.Popen(
        [*ISOLATED, "sh", "-c", command], cwd=folder, env=environment(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not allowed(), reason="needs root: makes namespaces")
@pytest.mark.parametrize("seeds", [FEW, pytest.param(MANY, marks=pytest.mark.exhaustive)])
# DVC's lock by the kernel, or by links as on network folders, where a host may also take its word that a file is absent.
@pytest.mark.parametrize(
    ("hardlink", "network"), [("false", False), ("true", False), pytest.param("true", True, marks=NETWORK)]
)
def test_no_entry_of_two_hosts_is_lost_or_torn(hardlink: str, network: bool, seeds: int, tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "repo", seeds=tuple(range(seeds)))
    # The one kind of lock leaves a file behind that the other takes for a lock that is held.
    sh(folder, f"dvc config core.hardlink_lock {hardlink} && rm .dvc/tmp/*lock && snakemake --cores 1 prepare_numbers")
    (folder / "host.py").write_text(HOST)
    repo = open_repo(folder)
    plan = locked(repo, lambda: make_plan(repo))
    plan.save(folder / "plan.json")
    work = [task.address for task in plan.tasks() if task.rule.endswith(("_train", "_prune"))]
    assert len(work) == 2 * 3 * seeds
    # A seed's trainings and prunings follow one another on one host; both hosts write to the lock files of both papers.
    shares = [[address for address in work if int(address.rsplit("-", 1)[-1].rsplit("@", 1)[-1]) % 2 == odd] for odd in (0, 1)]
    executed(folder)
    hosts = [host(folder, f"node{number}", share, network=network) for number, share in enumerate(shares)]
    for process in hosts:
        told, _ = process.communicate(timeout=300)
        assert process.returncode == 0, told
    assert len(executed(folder)) == len(work)
    recorded = [
        f"{lock.parent.relative_to(folder)}/dvc.yaml:{name}"
        for lock in (folder / "stages").rglob("dvc.lock")
        for name in split_entries(lock.read_text())
    ]
    assert set(work) < set(recorded)
    sh(folder, "snakemake --cores 2")
    assert len(executed(folder)) == 3  # the two gatherings and the report
    assert clean(folder)
