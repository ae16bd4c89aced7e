"""Private copies of this repository, as a fresh clone would have it, to run pipelines in."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.workflow.toy import ROOT, environment, sh


def copy_repository(folder: Path, samples: bool = True) -> Path:
    """Copy every file that git tracks or would track into `folder`, and commit it there.

    With `samples` what lies in data/ comes along, which a fresh clone's first run spends seconds on to make.
    """
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        source = ROOT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    if samples and (ROOT / "data/sample").is_dir():
        shutil.copytree(ROOT / "data", folder / "data", dirs_exist_ok=True)
    sh(folder, "git init -q -b main && git add -A && git -c user.name=t -c user.email=t@t commit -qm copy")
    return folder


def edit(folder: Path, file: str, pattern: str, replacement: str) -> None:
    """Replace the one match of a regular expression in a file."""
    path = folder / file
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{pattern} is not in {file}"
    path.write_text(text)


def smoke_settings(folder: Path) -> None:
    """Set the copy to one seed at the smoke scale, with every claim measured there."""
    # Pictures of another scale are strays to the stage that gathers them: the engine would sweep them at its next chance.
    shutil.rmtree(folder / "reports/pictures", ignore_errors=True)
    for claims in folder.glob("params/*/claim.yaml"):
        claims.write_text(claims.read_text().replace("scales: [", "scales: [smoke, "))
    edit(folder, "params/config.yaml", r"^scales: .*$", "scales: [smoke]")
    edit(folder, "params/config.yaml", r"^seeds: .*$", "seeds: [0]")


def only(folder: Path, paper: str) -> None:
    """Take every other paper out of the pipeline, so that what holds for one costs less to see; others may need their code."""
    for other in (path for path in (folder / "stages/papers").iterdir() if path.is_dir() and path.name != paper):
        for name in (*other.glob("dvc.*"), folder / "params" / other.name / "claim.yaml"):
            name.unlink(missing_ok=True)
        for left in ("runs/results", "reports/kept", "reports/pictures"):
            shutil.rmtree(folder / left / other.name, ignore_errors=True)
        (folder / f"runs/audit/{other.name}.csv").unlink(missing_ok=True)
    sh(folder, "git add -A && git -c user.name=t -c user.email=t@t commit -qm only")


def run_snakemake(folder: Path, arguments: str = "", **extra: str) -> set[str]:
    """Run the pipeline; returns the addresses of the stages whose commands were executed (not restored)."""
    shutil.rmtree(folder / "runs/.costs", ignore_errors=True)
    sh(folder, f"snakemake --cores 2 {arguments}", **{"REPRISE_PRELOAD": "auto", **extra})
    found = (folder / "runs/.costs").glob("*.json")
    return {re.search(r'"stage": "([^"]+)"', path.read_text())[1] for path in found}


def run_dvc(folder: Path) -> set[str]:
    """Run `dvc repro`; returns the addresses of the stages whose commands were executed."""
    out = sh(folder, "dvc repro").stdout
    names = re.findall(r"^Running stage '([^']+)':$", out, re.MULTILINE)
    return {name if ":" in name else f"dvc.yaml:{name}" for name in names}


__all__ = ["ROOT", "copy_repository", "edit", "environment", "run_dvc", "run_snakemake", "sh", "smoke_settings"]
