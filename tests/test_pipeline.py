"""The whole pipeline at the smoke scale, on both engines, in a private copy of the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.copies import copy_repository, edit, only, run_dvc, run_snakemake, sh, smoke_settings
from tests.workflow.toy import clean

pytestmark = pytest.mark.slow


@pytest.fixture
def pipeline(one_paper: Path, tmp_path: Path) -> Path:
    """A private copy of the finished pipeline of one paper."""
    return Path(shutil.copytree(one_paper, tmp_path / "repo", symlinks=True))


def fresh(folder: Path) -> Path:
    """A copy in which nothing has run, of the pipeline of one paper."""
    repo = copy_repository(folder / "repo")
    smoke_settings(repo)
    only(repo, "dcp")
    return repo


def locked(folder: Path, file: str) -> dict[str, object]:
    """What the lock file beside a dvc.yaml says of each stage."""
    return yaml.safe_load((folder / file).with_name("dvc.lock").read_text())["stages"]


def locks(folder: Path) -> dict[str, bytes]:
    """Contents of all lock files."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("dvc.lock"))}


def test_both_engines_are_content(finished: Path) -> None:
    """With all papers; nothing to do, so that nothing is changed."""
    assert clean(finished)
    assert run_dvc(finished) == set()
    assert run_snakemake(finished) == set()


def test_an_edit_reruns_the_same_stages_in_both_engines_is_shown_by_dvc_and_its_revert_reruns_nothing(
    pipeline: Path, tmp_path: Path
) -> None:
    before, original = locks(pipeline), (pipeline / "params/dcp/smoke.yaml").read_text()
    twin = Path(shutil.copytree(pipeline, tmp_path / "twin", symlinks=True))
    steps = r"(\n  head_steps: )"
    for folder in (pipeline, twin):
        edit(folder, "params/dcp/smoke.yaml", steps + r"\d+", r"\g<1>7")
    ours, theirs = run_snakemake(pipeline), run_dvc(twin)
    assert ours == theirs
    assert {name.split("@")[0].split(":")[1] for name in ours} == {"nuisance", "summarise", "report"}
    assert locks(pipeline) == locks(twin)
    assert "head_steps" in sh(pipeline, "dvc params diff --targets params/dcp/smoke.yaml").stdout
    assert sh(pipeline, "dvc metrics show").stdout.strip()
    assert sh(pipeline, "dvc plots show --out plots-page").returncode == 0
    shutil.rmtree(pipeline / "plots-page")
    (pipeline / "params/dcp/smoke.yaml").write_text(original)
    assert run_snakemake(pipeline) == set()
    assert locks(pipeline) == before
    assert clean(pipeline)


@pytest.mark.exhaustive
def test_a_second_run_from_nothing_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    folder = copy_repository(tmp_path / "repo")
    smoke_settings(folder)
    run_snakemake(folder)
    assert locks(folder) == locks(finished)
    for path in (finished / "reports").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (folder / path.relative_to(finished)).read_bytes(), path


def test_plain_scripts_give_the_bytes_of_forked_ones(one_paper: Path, tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    chain = "runs/dcp/{}/smoke/digits/{}0"
    targets = [chain.format("train", ""), chain.format("prune", "dcp/"), chain.format("finetune", "dcp/")]
    ran = run_snakemake(folder, targets[-1], REPRISE_WARM="0")
    scripts = {"digits", "train", "prune", "finetune"}
    assert {name.split("@")[0].split(":")[1] for name in ran} == scripts | {f"{script}_code" for script in scripts}
    compared = [path for target in targets for path in (folder / target).iterdir() if path.name[0] != "."]
    assert len(compared) >= 7
    for path in compared:
        assert path.read_bytes() == (one_paper / path.relative_to(folder)).read_bytes(), path


def test_a_stage_in_two_processes_is_committed_like_any_other(one_paper: Path, tmp_path: Path) -> None:
    folder, target = fresh(tmp_path), "runs/dcp/train/smoke/digits/0"
    said = r'\1    print("processes:", os.environ.get("WORLD_SIZE", "1"), flush=True)\n'
    edit(folder, "stages/papers/dcp/train.py", r"(    device = runtime\.prepare\(.*\n)", said)
    edit(folder, "stages/papers/dcp/train.py", r"^(from dataclasses )", r"import os\n\1")
    assert any("train@" in name for name in run_snakemake(folder, target, REPRISE_PROCESSES="2"))
    assert "processes: 2" in (folder / "runs/.logs/dcp_train/digits/smoke/0.log").read_text()
    entry, usual = (locked(place, "stages/papers/dcp/dvc.yaml")["train@smoke-digits-0"] for place in (folder, one_paper))
    assert (entry["cmd"], entry["params"]) == (usual["cmd"], usual["params"])
    assert run_snakemake(folder, target) == set()
