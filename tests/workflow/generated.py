"""Pipelines of any size in the project's own shape: papers of a hundred stages each, and a report that gathers them.

`write_pipeline` declares one, `finish` gives it the results, the cache and the lock files of a run to its end, without running
anything: thirty thousand jobs would take a day.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.workflow.toy import ROOT, sh

ARMS = ("dense", "l1", "dcp")
SEEDS = 11  # with three arms and three stages each, and the one that gathers: a hundred stages a paper
SECTIONS = ("train", "prune", "evaluate", "gather")

STEP = r"""
import sys
from pathlib import Path
step, out, *words = sys.argv[1:]
folder = not Path(out).suffix
for path in [Path(out, "manifest.json"), Path(out, "net.json")] if folder else [Path(out)]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join([step, path.name, *words]))
"""

DATA = """
stages:
  numbers:
    wdir: ../..
    cmd: python code/step.py numbers runs/prepare/numbers.json
    deps: [code/step.py]
    outs: [runs/prepare/numbers.json]
    meta: {threads: 1, mem_mb: 200, runtime: 1}
"""

MATRIX = """
  STEP:
    wdir: ../../..
    matrix: {arm: "${arms}", seed: "${seeds}"}
    cmd: python code/step.py STEP OUT PAPER ${item.arm} ${item.seed}
    deps: [code/step.py, "INPUT"]
    params:
      - params/PAPER/small.yaml: [STEP]
    outs: ["OUT"]
    meta: {threads: 1, mem_mb: 1000, runtime: 30}
"""

GATHER = """
  gather:
    wdir: ../../..
    cmd: python code/step.py gather runs/results/PAPER.json PAPER
    deps: [code/step.py, runs/PAPER/metrics]
    params:
      - params/PAPER/small.yaml: [gather]
    outs: [runs/results/PAPER.json]
    meta: {threads: 1, mem_mb: 200, runtime: 1}
"""

REPORT = """
stages:
  report:
    cmd: python code/step.py report reports/table.md
    deps: [code/step.py, runs/results]
    outs: [reports/table.md]
    meta: {threads: 1, mem_mb: 200, runtime: 1}
"""

INPUTS = {"train": "runs/prepare/numbers.json", "prune": "runs/PAPER/train/KEYS", "evaluate": "runs/PAPER/prune/KEYS"}
OUTPUTS = {"train": "runs/PAPER/train/KEYS", "prune": "runs/PAPER/prune/KEYS", "evaluate": "runs/PAPER/metrics/KEYS.json"}


def write_pipeline(folder: Path, papers: int, seeds: int = SEEDS) -> int:
    """Declare a pipeline of so many papers in a new repository; returns the number of its stages.

    A paper has 9 stages a seed and one that gathers them; the data and the report are two more.
    """
    files = {"code/step.py": STEP, "stages/prepare/dvc.yaml": DATA, "dvc.yaml": REPORT}
    files[".gitignore"] = "/runs/\n/reports/\n.snakemake/\n__pycache__/\n"
    files["params/config.yaml"] = f"arms: [{', '.join(ARMS)}]\nseeds: {list(range(seeds))}\n"
    for paper in names(papers):
        files[f"params/{paper}/small.yaml"] = "".join(f"{section}:\n  epochs: 2\n" for section in SECTIONS)
        files[f"stages/papers/{paper}/dvc.yaml"] = declaration(paper)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for name in ("Snakefile", "profiles", "workflow", ".dvcignore"):
        source, ignore = ROOT / name, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder / name)
    sh(folder, "git init -q -b main && dvc init -q && dvc config core.analytics false")
    sh(folder, f"dvc config --local core.site_cache_dir {folder}/.dvc/site")  # it goes with the folder
    return papers * (3 * len(ARMS) * seeds + 1) + 2


def names(papers: int) -> list[str]:
    """The papers' slugs."""
    return [f"p{number:03d}" for number in range(papers)]


def declaration(paper: str) -> str:
    """The dvc.yaml of a paper."""
    text = "vars:\n  - ../../../params/config.yaml\nstages:"
    for step in ("train", "prune", "evaluate"):
        text += MATRIX.replace("STEP", step).replace("INPUT", INPUTS[step]).replace("OUT", OUTPUTS[step])
    return (text + GATHER).replace("KEYS", "${item.arm}/${item.seed}").replace("PAPER", paper)


@dataclass
class Result:
    """What dvc.lock says of a file or folder."""

    path: str
    md5: str
    size: int
    files: int = 0

    def text(self) -> str:
        """Its item in a lock file's list."""
        lines = [f"- path: {self.path}", "  hash: md5", f"  md5: {self.md5}", f"  size: {self.size}"]
        return "".join(f"    {line}\n" for line in ([*lines, f"  nfiles: {self.files}"] if self.files else lines))


class Finisher:
    """Writes what a run to its end leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = self._known("code/step.py", (folder / "code/step.py").read_bytes())

    def _known(self, path: str, content: bytes) -> Result:
        return Result(path, hashlib.md5(content).hexdigest(), len(content))

    def _file(self, path: str, words: str) -> Result:
        """Write one file of the workspace and its object in the cache."""
        found = self._known(path, words.encode())
        for place in (self.folder / path, self._cached(found.md5)):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(words)
        self._cached(found.md5).chmod(0o444)
        return found

    def _cached(self, md5: str) -> Path:
        return self.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]

    def output(self, step: str, path: str, *words: str) -> Result:
        """Write the output of one stage, as code/step.py does."""
        if Path(path).suffix:
            return self._file(path, " ".join([step, Path(path).name, *words]))
        return self._tree(path, [self._file(f"{path}/{n}", " ".join([step, n, *words])) for n in ("manifest.json", "net.json")])

    def _tree(self, path: str, files: list[Result]) -> Result:
        """A folder of files, and its object in the cache."""
        entries = sorted((file.path.removeprefix(f"{path}/"), file.md5) for file in files)
        content = json.dumps([{"md5": md5, "relpath": name} for name, md5 in entries], sort_keys=True)
        md5 = hashlib.md5(content.encode()).hexdigest() + ".dir"
        self._cached(md5).parent.mkdir(parents=True, exist_ok=True)
        self._cached(md5).write_text(content)
        self._cached(md5).chmod(0o444)
        return Result(path, md5, sum(file.size for file in files), len(files))

    def entry(self, name: str, dep: Result | None, out: Result, paper: str = "", keys: tuple[str, ...] = ()) -> str:
        """One stage's entry of a lock file."""
        step = name.partition("@")[0]
        command = " ".join(["python code/step.py", step, out.path, *([paper] if paper else []), *keys])
        deps = sorted([self.code, *([dep] if dep else [])], key=lambda one: one.path)
        params = f"    params:\n      params/{paper}/small.yaml:\n        {step}:\n          epochs: 2\n" if paper else ""
        listed = "".join(one.text() for one in deps)
        return f"  {name}:\n    cmd: {command}\n    deps:\n{listed}{params}    outs:\n{out.text()}"

    def lock(self, folder: str, entries: list[str]) -> None:
        """Write a lock file."""
        (self.folder / folder / "dvc.lock").write_text("schema: '2.0'\nstages:\n" + "".join(entries))

    def paper(self, paper: str, seeds: int, numbers: Result) -> Result:
        """All stages of a paper; returns what it gathered."""
        made: list[tuple[str, Result, Result, tuple[str, ...]]] = []
        for arm, seed in product(ARMS, map(str, range(seeds))):
            dep = numbers
            for step in ("train", "prune", "evaluate"):
                path = OUTPUTS[step].replace("PAPER", paper).replace("KEYS", f"{arm}/{seed}")
                out = self.output(step, path, paper, arm, seed)
                made.append((f"{step}@{arm}-{seed}", dep, out, (arm, seed)))
                dep = out
        metrics = self._tree(f"runs/{paper}/metrics", [out for name, _, out, _ in made if name.startswith("evaluate@")])
        gathered = self.output("gather", f"runs/results/{paper}.json", paper)
        entries = [self.entry(name, dep, out, paper, keys) for name, dep, out, keys in made]
        self.lock(f"stages/papers/{paper}", [*entries, self.entry("gather", metrics, gathered, paper)])
        return gathered


def finish(folder: Path, papers: int, seeds: int = SEEDS) -> None:
    """Give the pipeline of `write_pipeline` all results, as if it had run to its end."""
    finisher = Finisher(folder)
    numbers = finisher.output("numbers", "runs/prepare/numbers.json")
    finisher.lock("stages/prepare", [finisher.entry("numbers", None, numbers)])
    gathered = [finisher.paper(paper, seeds, numbers) for paper in names(papers)]
    table = finisher.output("report", "reports/table.md")
    finisher.lock(".", [finisher.entry("report", finisher._tree("runs/results", gathered), table)])
