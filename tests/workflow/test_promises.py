"""The engine's promises (one DAG, two engines), each on a torch-free pipeline."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.workflow.toy import clean, environment, executed, sh, write_toy

REPORT = "reports/table.md"
ALL = 1 + 2 * (2 + 4 + 1) + 1  # prepare, two papers of two trains, four prunes and a gather, the report


def replace(folder: Path, file: str, old: str, new: str) -> None:
    """Edit one tracked value."""
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_scheduler_works_when_a_job_ends_and_not_otherwise(fresh_toy: Path) -> None:
    """A look at the ready jobs for each job, however long the run."""
    told = sh(fresh_toy, "snakemake --cores 2 --verbose")
    looks = (told.stdout + told.stderr).count("Resources before job selection")
    assert 0 < looks <= ALL + 2


def nothing_to_do(folder: Path) -> bool:
    """Whether a dry run of Snakemake has no job."""
    return "Nothing to be done" in sh(folder, "snakemake -n --cores 1 2>&1").stdout


def test_after_snakemake_dvc_has_nothing_to_do(toy: Path) -> None:
    assert clean(toy)
    sh(toy, "dvc repro")
    assert executed(toy) == []
    assert nothing_to_do(toy)


def test_after_dvc_repro_snakemake_has_nothing_to_do(fresh_toy: Path) -> None:
    sh(fresh_toy, "dvc repro")
    assert len(executed(fresh_toy)) == ALL
    assert nothing_to_do(fresh_toy)
    sh(fresh_toy, "snakemake --cores 2")
    assert executed(fresh_toy) == []
    assert clean(fresh_toy)


EDITS = {
    "learning rate": ("params/dcp.yaml", "lr: 2", "lr: 12"),
    "rounded away": ("params/dcp.yaml", "lr: 2", "lr: 3"),
    "ratio": ("params/chex.yaml", "ratio: 3", "ratio: 5"),
    "report": ("params/report.yaml", "digits: 2", "digits: 3"),
    "code": ("code/prune.py", "import helper", "import helper  # edited"),
    "shared code": ("code/helper.py", "import json, re", "import json, re  # edited"),
    "new seed": ("params/config.yaml", "seeds: [0, 1]", "seeds: [0, 1, 2]"),
    "removed arm": ("params/config.yaml", "arms: [l1, dcp]", "arms: [dcp]"),
    "declaration": ("stages/papers/dcp/dvc.yaml", "train.py paper=dcp", "train.py paper=dcp extra=1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_both_engines_rerun_the_same_stages(toy: Path, tmp_path: Path, name: str) -> None:
    twin = Path(shutil.copytree(toy, tmp_path / "twin"))
    for folder in (toy, twin):
        replace(folder, *EDITS[name])
    sh(toy, "snakemake --cores 2")
    sh(twin, "dvc repro")
    ours, theirs = executed(toy), executed(twin)
    assert ours == theirs
    assert (len(ours) < ALL) or name == "shared code"
    assert clean(toy)
    assert (toy / REPORT).read_bytes() == (twin / REPORT).read_bytes()


def test_edited_parameter_reruns_only_what_depends_on_it(toy: Path) -> None:
    replace(toy, "params/dcp.yaml", "ratio: 3", "ratio: 4")
    sh(toy, "snakemake --cores 2")
    ran = executed(toy)
    assert [line.split()[0] for line in ran] == ["gather", *["prune"] * 4, "report"]
    assert all("chex" not in line for line in ran)


def test_identical_intermediate_stops_the_rerun(toy: Path) -> None:
    replace(toy, "params/dcp.yaml", "lr: 2", "lr: 3")  # 42 // 2 == 43 // 2 for seed 0, not for seed 1
    sh(toy, "snakemake --cores 2")
    pruned = [line for line in executed(toy) if line.startswith("prune")]
    assert len(pruned) == 4  # both engines must look: their input changed
    assert clean(toy)


def test_reverted_edit_computes_nothing(toy: Path) -> None:
    before = (toy / REPORT).read_bytes()
    replace(toy, "params/dcp.yaml", "lr: 2", "lr: 12")
    sh(toy, "snakemake --cores 2")
    executed(toy)
    assert (toy / REPORT).read_bytes() != before
    replace(toy, "params/dcp.yaml", "lr: 12", "lr: 2")
    sh(toy, "snakemake --cores 2")
    assert executed(toy) == []
    assert (toy / REPORT).read_bytes() == before
    assert clean(toy)
    assert sh(toy, "git status --porcelain").stdout == ""


def test_added_and_removed_seed_computes_nothing_and_leaves_no_row(toy: Path) -> None:
    before = (toy / REPORT).read_bytes()
    replace(toy, "params/config.yaml", "seeds: [0, 1]", "seeds: [0, 1, 2]")
    sh(toy, "snakemake --cores 2")
    assert (toy / REPORT).read_bytes() != before
    executed(toy)
    replace(toy, "params/config.yaml", "seeds: [0, 1, 2]", "seeds: [0, 1]")
    sh(toy, "snakemake --cores 2")
    assert executed(toy) == []
    assert (toy / REPORT).read_bytes() == before
    assert clean(toy)


def test_deleted_outputs_compute_nothing(toy: Path) -> None:
    before = (toy / REPORT).read_bytes()
    shutil.rmtree(toy / "runs")
    (toy / REPORT).unlink()
    sh(toy, "snakemake --cores 2")
    assert executed(toy) == []
    assert (toy / REPORT).read_bytes() == before
    assert clean(toy)


def test_fresh_clone_with_pull_computes_nothing(toy: Path, tmp_path: Path) -> None:
    sh(toy, f"dvc remote add -q -d store {tmp_path}/store && dvc push -q && git commit -qam remote")
    sh(tmp_path, "git clone -q repo clone")
    clone = tmp_path / "clone"
    sh(clone, "dvc pull -q")
    assert clean(clone)
    sh(clone, "snakemake --cores 2")
    assert executed(clone) == []
    assert (clone / REPORT).read_bytes() == (toy / REPORT).read_bytes()


def test_parallel_jobs_leave_the_lock_files_of_a_serial_repro(fresh_toy: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(fresh_toy, tmp_path / "twin"))
    sh(fresh_toy, "snakemake --cores 8")
    sh(twin, "dvc repro")
    locks = sorted(path.relative_to(twin) for path in twin.rglob("dvc.lock"))
    assert len(locks) == 4
    for lock in locks:
        assert (fresh_toy / lock).read_bytes() == (twin / lock).read_bytes(), lock


def test_target_runs_its_own_ancestors_only(fresh_toy: Path) -> None:
    sh(fresh_toy, "snakemake --cores 2 chex")
    ran = executed(fresh_toy)
    assert len(ran) == 1 + 2 + 4 + 1
    assert all("paper=dcp" not in line for line in ran)
    assert not (fresh_toy / REPORT).exists()


def test_cold_jobs_give_the_same_lock_files(fresh_toy: Path, finished_toy: Path) -> None:
    sh(fresh_toy, "snakemake --cores 2", REPRISE_WARM="0")
    assert len(executed(fresh_toy)) == ALL
    for lock in finished_toy.rglob("dvc.lock"):
        assert lock.read_bytes() == (fresh_toy / lock.relative_to(finished_toy)).read_bytes()


LOOKING = ["-n", "--unlock", "--lint", "--rulegraph", "--dag", "--summary", "--list-rules", "--touch"]


@pytest.mark.parametrize("option", LOOKING)
def test_looking_writes_nothing(toy: Path, option: str) -> None:
    """Above all it must not restore, sweep or run: `--unlock` once did."""
    shutil.rmtree(toy / "runs/dcp")
    before = _contents(toy)
    sh(toy, f"snakemake --cores 1 {option}", check=False)
    assert executed(toy) == []
    assert _contents(toy) == before


def _contents(folder: Path) -> dict[str, bytes]:
    """Files of the repository that a look must not touch."""
    skipped = (".snakemake", ".git/", "__pycache__", ".dvc/tmp")
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): p.read_bytes() for p in files if not any(s in str(p.relative_to(folder)) for s in skipped)}


@pytest.mark.parametrize("target", ["params/dcp.yaml", "code/helper.py", "data/sample/numbers.txt"])
@pytest.mark.parametrize("warm", ["1", "0"])
def test_edit_during_a_job_fails_it_and_leaves_the_lock_file(fresh_toy: Path, target: str, warm: str) -> None:
    (fresh_toy / "wait").write_text("4")
    goal = "prepare_numbers" if target.startswith("data") else "runs/dcp/train/0.json"
    process = start(fresh_toy, f"snakemake --cores 2 {goal}", REPRISE_WARM=warm)
    started = "prepare" if target.startswith("data") else "train"
    wait_for(lambda: started in trace(fresh_toy))
    (fresh_toy / target).write_text(
        (fresh_toy / target).read_text() + "# edited\n" if "yaml" not in target else "lr: 9\nratio: 3\n"
    )
    out, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert re.search(rf"({re.escape(target)}|data/sample|lr in) ?.*changed while", out), out
    locks = [path for path in fresh_toy.rglob("dvc.lock") if f"{started}@0" in path.read_text()]
    assert locks == []
    assert not (fresh_toy / "runs/dcp/train/0.json").exists()


def test_edit_between_plan_and_job_stops_it(fresh_toy: Path) -> None:
    (fresh_toy / "wait").write_text("3")
    process = start(fresh_toy, "snakemake --cores 1 runs/dcp/train/0.json")
    wait_for(lambda: "prepare" in trace(fresh_toy))
    replace(fresh_toy, "params/dcp.yaml", "lr: 2", "lr: 7")
    out, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "changed after the run was planned" in out
    assert "train" not in trace(fresh_toy)


@pytest.mark.exhaustive  # tests/faults kills once in each phase of a run
def test_kill_at_random_moments_ends_in_the_same_bytes(tmp_path: Path, finished_toy: Path) -> None:
    """kill -9 of the whole process group, ten times; then everything is as if undisturbed."""
    folder = write_toy(tmp_path / "repo")
    (folder / "wait").write_text("0.2")
    rng = random.Random(0)
    for round_ in range(10):
        process = start(folder, "snakemake --cores 2")
        time.sleep(rng.uniform(1.5, 6.0))
        kill_group(process)
        committed = _committed(folder)
        executed(folder)
        for lock in folder.rglob("dvc.lock"):
            assert lock.read_text().startswith("schema: '2.0'\nstages:\n"), round_
        before = committed
    done = sh(folder, "snakemake --cores 2")
    assert done.returncode == 0
    again = executed(folder)
    # What was committed did not run twice; a stage killed between its entries in run-cache and lock file is restored.
    assert len(again) <= ALL - len(before)
    assert clean(folder)
    for lock in finished_toy.rglob("dvc.lock"):
        assert lock.read_bytes() == (folder / lock.relative_to(finished_toy)).read_bytes()
    assert nothing_to_do(folder)
    assert no_processes(folder)


@pytest.mark.parametrize("torn", ["", '{"read": {"a'])
def test_a_torn_list_of_files_in_use_is_removed(fresh_toy: Path, torn: str) -> None:
    """What a kill leaves when it strikes while DVC writes that list."""
    (fresh_toy / ".dvc/tmp").mkdir(exist_ok=True)
    (fresh_toy / ".dvc/tmp/rwlock").write_text(torn)
    done = sh(fresh_toy, "snakemake --cores 2")
    assert done.returncode == 0, done.stderr
    assert clean(fresh_toy)


def test_what_a_kill_leaves_in_a_gathered_folder_is_not_gathered(fresh_toy: Path) -> None:
    """DVC tries the kind of links it may use with a file beside the output; a kill leaves it there."""
    left = fresh_toy / "runs/dcp/metrics/l1/.half"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    sh(fresh_toy, "snakemake --cores 2")
    assert not left.exists()
    assert "nfiles: 4" in (fresh_toy / "stages/papers/dcp/dvc.lock").read_text()
    assert clean(fresh_toy)


def _committed(folder: Path) -> set[str]:
    """Stages that a lock file records."""
    return {
        f"{lock.parent}:{line}"
        for lock in folder.rglob("dvc.lock")
        for line in re.findall(r"^  (\S.*):$", lock.read_text(), re.MULTILINE)
    }


@pytest.mark.parametrize("warm", ["1", "0"])
def test_interrupt_leaves_no_process_and_commits_nothing_wrong(fresh_toy: Path, warm: str) -> None:
    (fresh_toy / "wait").write_text("30")
    process = start(fresh_toy, "snakemake --cores 2", REPRISE_WARM=warm)
    wait_for(lambda: "prepare" in trace(fresh_toy))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    wait_for(lambda: no_processes(fresh_toy))
    assert _committed(fresh_toy) == set()


def test_dead_parent_takes_the_server_and_its_jobs_along(fresh_toy: Path) -> None:
    (fresh_toy / "wait").write_text("60")
    process = start(fresh_toy, "snakemake --cores 2")
    wait_for(lambda: "prepare" in trace(fresh_toy))
    process.kill()  # Snakemake alone; the server and the job are left to notice
    process.communicate(timeout=60)
    wait_for(lambda: no_processes(fresh_toy), seconds=45)


def start(folder: Path, command: str, **extra: str) -> subprocess.Popen[str]:
    """Start a command as the leader of its own process group, which takes SIGINT even where pytest ignores it.

    (A shell without job control makes what it starts in the background ignore Ctrl-C.)
    """
    return subprocess.Popen(
        command.split(),
        cwd=folder,
        env=environment(folder, **extra),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def kill_group(process: subprocess.Popen[str]) -> None:
    """kill -9 of the process and all its relatives in the group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    time.sleep(0.3)


def trace(folder: Path) -> str:
    """Scripts that have started so far."""
    path = folder / "trace"
    return path.read_text() if path.exists() else ""


def wait_for(condition, seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def no_processes(folder: Path) -> bool:
    """Whether no process has the folder as its working directory."""
    mine = str(folder.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == mine and "Z" not in (process / "stat").read_text().split(")")[1][:3]:
                return False
        except OSError:
            continue
    return True


def test_restore_in_the_plan_is_a_restore_dvc_can_keep(toy: Path) -> None:
    """The trial planned restores from run-cache entries whose outputs a kill had kept out of the cache."""
    # A rate of its own: with chex's, which of the two makes their equal outputs would be a matter of order.
    text = (toy / "params/dcp.yaml").read_text().replace("lr: 2", "lr: 5")
    for edited in (text, text.replace("lr: 5", "lr: 12")):
        (toy / "params/dcp.yaml").write_text(edited)
        sh(toy, "snakemake --cores 2")
    (toy / "params/dcp.yaml").write_text(text)
    kept = (toy / "runs/dcp/metrics/dcp/0.json").read_bytes()
    shutil.rmtree(toy / ".dvc/cache/files")  # the run-cache still has every entry
    executed(toy)
    sh(toy, "snakemake --cores 2")
    assert any("paper=dcp" in line for line in executed(toy))
    assert (toy / "runs/dcp/metrics/dcp/0.json").read_bytes() != kept
    assert clean(toy)


def test_dry_run_knows_what_can_be_restored(toy: Path) -> None:
    shutil.rmtree(toy / "runs/dcp")
    from workflow.engine.plan import make_plan
    from workflow.engine.repository import open_repo, repository_lock

    repo = open_repo(toy)
    with repository_lock(repo):
        plan = make_plan(repo)
    states = {address.split("/")[-1]: d.state for address, d in plan.decisions.items()}
    assert {d.state for a, d in plan.decisions.items() if "papers/dcp" in a} == {"ok", "restore"}
    assert states["dvc.yaml:report"] == "ok"
    assert not (toy / "runs/dcp").exists()


def test_waits_for_a_dvc_command(toy: Path) -> None:
    text = (toy / "params/dcp.yaml").read_text()
    (toy / "params/dcp.yaml").write_text(re.sub(r"lr: \d+", "lr: 77", text))
    (toy / "wait").write_text("4")
    command = ["dvc", "repro", "-s", "stages/papers/dcp/dvc.yaml:train@0"]
    other = subprocess.Popen(command, cwd=toy, env=environment(toy), stdout=subprocess.DEVNULL)
    while not executed(toy):  # until it is inside its command
        time.sleep(0.1)
    (toy / "wait").unlink()
    sh(toy, "snakemake --cores 2")
    assert other.wait() == 0
    assert "train paper=dcp seed=0" not in executed(toy)  # its result was taken, not made twice
    assert clean(toy)
