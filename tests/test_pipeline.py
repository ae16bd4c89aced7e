"""The whole pipeline at the smoke scale, on both engines, in a private copy of the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.copies import copy_repository, edit, run_dvc, run_snakemake, sh, smoke_settings
from tests.workflow.toy import clean

pytestmark = pytest.mark.slow


@pytest.fixture
def pipeline(finished: Path, tmp_path: Path) -> Path:
    """A private copy of the finished pipeline."""
    return Path(shutil.copytree(finished, tmp_path / "repo", symlinks=True))


def locks(folder: Path) -> dict[str, bytes]:
    """Contents of all lock files."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("dvc.lock"))}


def test_both_engines_are_content(pipeline: Path) -> None:
    assert clean(pipeline)
    assert run_dvc(pipeline) == set()
    assert run_snakemake(pipeline) == set()


def test_an_edit_reruns_the_same_stages_in_both_engines_and_its_revert_nothing(pipeline: Path, tmp_path: Path) -> None:
    before, original = locks(pipeline), (pipeline / "params/dcp/smoke.yaml").read_text()
    twin = Path(shutil.copytree(pipeline, tmp_path / "twin", symlinks=True))
    steps = r"(\n  head_steps: )"
    for folder in (pipeline, twin):
        edit(folder, "params/dcp/smoke.yaml", steps + r"\d+", r"\g<1>7")
    ours, theirs = run_snakemake(pipeline), run_dvc(twin)
    assert ours == theirs
    assert {name.split("@")[0].split(":")[1] for name in ours} == {"nuisance", "summarise", "report"}
    assert locks(pipeline) == locks(twin)
    (pipeline / "params/dcp/smoke.yaml").write_text(original)
    assert run_snakemake(pipeline) == set()
    assert locks(pipeline) == before
    assert clean(pipeline)


def test_a_second_run_of_a_paper_from_nothing_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    folder = copy_repository(tmp_path / "repo")
    smoke_settings(folder)
    run_snakemake(folder, "dcp")
    for lock in ("stages/papers/dcp/dvc.lock", "stages/prepare/dvc.lock"):
        ours, theirs = (yaml.safe_load((place / lock).read_text())["stages"] for place in (folder, finished))
        assert ours.items() <= theirs.items()
    assert len(ours) > 1


@pytest.mark.exhaustive
def test_a_second_run_from_nothing_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    folder = copy_repository(tmp_path / "repo")
    smoke_settings(folder)
    run_snakemake(folder)
    assert locks(folder) == locks(finished)
    for path in (finished / "reports").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (folder / path.relative_to(finished)).read_bytes(), path


def test_plain_scripts_give_the_bytes_of_forked_ones(finished: Path, tmp_path: Path) -> None:
    folder = copy_repository(tmp_path / "repo")
    smoke_settings(folder)
    chain = "runs/dcp/{}/smoke/digits/{}0"
    targets = [chain.format("train", ""), chain.format("prune", "dcp/"), chain.format("finetune", "dcp/")]
    ran = run_snakemake(folder, targets[-1], REPRISE_WARM="0")
    scripts = {"digits", "train", "prune", "finetune"}
    assert {name.split("@")[0].split(":")[1] for name in ran} == scripts | {f"{script}_code" for script in scripts}
    compared = [path for target in targets for path in (folder / target).iterdir() if path.name[0] != "."]
    assert len(compared) >= 7
    for path in compared:
        assert path.read_bytes() == (finished / path.relative_to(folder)).read_bytes(), path


def test_dvc_front_ends_work(pipeline: Path) -> None:
    edit(pipeline, "params/dcp/smoke.yaml", r"(nuisance:(?:\n .*)*?\n  passes: )\d+", r"\g<1>2")
    assert "nuisance" in sh(pipeline, "dvc params diff --targets params/dcp/smoke.yaml").stdout
    run_snakemake(pipeline)
    assert sh(pipeline, "dvc metrics show").stdout.strip()
    assert sh(pipeline, "dvc plots show --out plots-page").returncode == 0
