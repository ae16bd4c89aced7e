"""Keeping the figures of a longer scale: a clone at the last commit with a shared cache, and what is copied from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workflow.toy import sh
from workflow import keep

COMMIT = "git add -A && git -c user.name=t -c user.email=t@t commit -qm edit"


@pytest.fixture
def project(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished toy pipeline with a scale in its settings and a paper that has a medium one; the current folder."""
    with (toy / "params/config.yaml").open("a") as config:
        config.write("scales: [small]\n")
    (toy / "params/alpha").mkdir()
    (toy / "params/alpha/medium.yaml").write_text("repeats: 5\n")
    sh(toy, COMMIT)
    monkeypatch.chdir(toy)
    return toy


@pytest.mark.slow
def test_the_clone_has_the_commit_the_scale_and_the_cache(project: Path) -> None:
    keep.prepare(keep.CLONE, "medium")
    assert "scales: [medium]" in (keep.CLONE / "params/config.yaml").read_text()
    assert "scales: [small]" in Path("params/config.yaml").read_text()
    assert keep._git("rev-parse", "HEAD", folder=keep.CLONE) == keep._git("rev-parse", "HEAD")
    assert "Nothing to be done" in sh(keep.CLONE, "snakemake --cores 1").stderr  # all comes from the shared cache
    (project / "code/prepare.py").write_text((project / "code/prepare.py").read_text() + "# edited\n")
    sh(project, COMMIT)
    keep.prepare(keep.CLONE, "medium")
    assert "# edited" in (keep.CLONE / "code/prepare.py").read_text()
    assert sh(project, "git status --porcelain").stdout == ""


def test_kept_are_the_summary_its_commit_and_its_cost(project: Path, tmp_path: Path) -> None:
    summary = project / "runs/results/alpha/medium"
    summary.mkdir(parents=True)
    (summary / "manifest.json").write_text("{}")
    for number, name in enumerate(("train@medium-5", "train@medium-6", "train@small-5")):
        note = {"stage": f"stages/papers/alpha/dvc.yaml:{name}", "core_seconds": 10.4}
        (project / "runs/.costs").mkdir(exist_ok=True)
        (project / f"runs/.costs/{number}.json").write_text(json.dumps(note))
    folder = keep.keep(Path(), "alpha", "medium", tmp_path / "kept")
    assert json.loads((folder / "commit.json").read_text()) == {
        "commit": keep._git("rev-parse", "HEAD"),
        "core_seconds": 21,
    }
    assert (folder / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["medium"], "usage"),
        (["medium", "gamma"], "gamma"),
        (["large", "alpha"], "large.yaml"),
        (["medium", "alpha"], "commit"),
    ],
)
def test_refusals(project: Path, words: list[str], message: str) -> None:
    (project / "params/config.yaml").write_text("seeds: [9]\n")  # an edit that no commit holds
    with pytest.raises(keep.KeepError, match=message):
        keep.main(words)
    assert not keep.CLONE.exists()


def test_an_unfinished_run_is_not_kept(project: Path, tmp_path: Path) -> None:
    with pytest.raises(keep.KeepError, match="did not end"):
        keep.keep(Path(), "alpha", "medium", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
