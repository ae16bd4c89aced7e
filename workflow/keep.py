"""Measure papers at a scale that is too long for every run, and keep the figures beside the report.

python -m workflow.keep medium dcp chex       measures both at the last commit, in a clone of their own

The clone lies in runs/keep and shares this repository's cache, so a second call computes only what has changed since.
Kept are the summaries (small tables), with the commit they were measured at and their cost; the report shows them beside
the scales of params/config.yaml.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from workflow import costs

CLONE, KEPT = Path("runs/keep"), Path("reports/kept")
# What decides a result: an uncommitted edit there would make the noted commit a lie.
SOURCES = ["stages", "params", "workflow", "Snakefile", "data.dvc", "requirements.lock"]


class KeepError(SystemExit):
    """The figures cannot be measured or kept; the message says why and what to do."""


def main(arguments: list[str]) -> None:
    """Measure and keep: the first argument is the scale, the others are the papers."""
    if len(arguments) < 2:
        raise KeepError("usage: python -m workflow.keep SCALE PAPER [PAPER ...]")
    scale, *papers = arguments
    for paper in papers:
        if not Path("params", paper, f"{scale}.yaml").is_file():
            raise KeepError(f"params/{paper}/{scale}.yaml: missing; is {paper} a paper and {scale} one of its scales?")
    if _git("status", "--porcelain", "--", *SOURCES):
        raise KeepError(f"uncommitted edits below {', '.join(SOURCES)}: commit them, so that the noted commit is what was run")
    prepare(CLONE, scale)
    # Without this an installed environment runs this repository's code, which may be newer than the noted commit.
    environment = {**os.environ, "PYTHONPATH": str(CLONE.resolve())}
    subprocess.run(["snakemake", "--cores", "all", *papers], cwd=CLONE, check=True, env=environment)
    for paper in papers:
        print(f"kept: {keep(CLONE, paper, scale)}")


def prepare(clone: Path, scale: str) -> None:
    """A clone of the last commit, set to one scale, with this repository's DVC cache."""
    if not clone.exists():
        subprocess.run(["git", "clone", "-q", ".", str(clone)], check=True)
    commit = _git("rev-parse", "HEAD")
    subprocess.run(["git", "fetch", "-q"], cwd=clone, check=True)
    subprocess.run(["git", "checkout", "-q", "--force", "--detach", commit], cwd=clone, check=True)
    cache = Path(_run(["dvc", "cache", "dir"]))
    subprocess.run(["dvc", "cache", "dir", "--local", str(cache.resolve())], cwd=clone, check=True)
    config = clone / "params/config.yaml"
    text, count = re.subn(r"(?m)^scales: .*$", f"scales: [{scale}]", config.read_text(encoding="utf-8"))
    if count != 1:
        raise KeepError(f"{config}: expected one line that begins with scales:")
    config.write_text(text, encoding="utf-8")


def keep(clone: Path, paper: str, scale: str, kept: Path = KEPT) -> Path:
    """Copy the summary of a paper from a clone, note its commit and core-seconds. Returns the folder."""
    source, folder = clone / "runs/results" / paper / scale, kept / paper / scale
    if not (source / "manifest.json").is_file():
        raise KeepError(f"{source}: no summary; its run did not end")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    spent = costs.by_paper(clone / "runs/.costs")
    about = {"commit": _git("rev-parse", "HEAD", folder=clone), "core_seconds": round(spent.get((paper, scale), 0.0))}
    (folder / "commit.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def _git(*arguments: str, folder: Path = Path()) -> str:
    return _run(["git", *arguments], folder)


def _run(command: list[str], folder: Path = Path()) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
