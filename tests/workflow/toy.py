"""A small torch-free pipeline in the project's own shape: two papers, data, a gathering report."""

from __future__ import annotations

import atexit
import compileall
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from dvc.repo import Repo

ROOT = Path(__file__).resolve().parents[2]

STEP = r"""
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, "code")
import helper
keys = dict(word.split("=", 1) for word in sys.argv[1:])
trace = os.environ.get("TRACE")
if trace:
    with open(trace, "a") as handle:
        handle.write(" ".join([Path(__file__).stem, *sys.argv[1:]]) + "\n")
wait = Path("wait")
if wait.exists():
    time.sleep(float(wait.read_text()))
helper.run(Path(__file__).stem, keys)
"""

HELPER = r"""
import json, re
from pathlib import Path

def value(file, key):
    return int(re.search(rf"^{key}: (\d+)$", Path(file).read_text(), re.M)[1])

def listed(key):
    return re.search(rf"^{key}: \[(.*)\]$", Path("params/config.yaml").read_text(), re.M)[1].split(", ")

def write(path, value):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".tmp").write_text(json.dumps(value))
    path.with_suffix(".tmp").replace(path)

def run(step, keys):
    if step == "prepare":
        write("runs/prepare/numbers.json", value("data/sample/numbers.txt", "n") * 10)
    if step == "train":
        base = json.loads(Path("runs/prepare/numbers.json").read_text())
        write(f"runs/{keys['paper']}/train/{keys['seed']}.json", base + value(f"params/{keys['paper']}.yaml", "lr") + int(keys["seed"]))
    if step == "prune":
        base = json.loads(Path(f"runs/{keys['paper']}/train/{keys['seed']}.json").read_text())
        # rounding makes some edits invisible below: the stage's result comes out identical
        write(f"runs/{keys['paper']}/metrics/{keys['arm']}/{keys['seed']}.json", base // 2 + value(f"params/{keys['paper']}.yaml", "ratio"))
    if step == "gather":
        # the listed grid, not whatever lies there
        grid = [f"{arm}/{seed}" for arm in listed("arms") for seed in listed("seeds")]
        read = lambda name: json.loads(Path(f"runs/{keys['paper']}/metrics/{name}.json").read_text())
        write(f"runs/results/{keys['paper']}.json", [[name, read(name)] for name in grid])
    if step == "report":
        files = sorted(Path("runs/results").glob("*.json"))
        Path("reports").mkdir(exist_ok=True)
        Path("reports/table.md").write_text("".join(f.name + f.read_text() + "\n" for f in files) + str(value("params/report.yaml", "digits")))
"""

PREPARE = """
stages:
  numbers:
    wdir: ../..
    cmd: python code/prepare.py
    deps: [code/prepare.py, code/helper.py, data/sample/numbers.txt]
    outs: [runs/prepare/numbers.json]
    meta: {threads: 1, mem_mb: 100, runtime: 1}
"""

PAPER = """
vars:
  - ../../../params/config.yaml
stages:
  train:
    wdir: ../../..
    matrix:
      seed: ${seeds}
    cmd: python code/train.py paper=PAPER seed=${item.seed}
    deps: [code/train.py, code/helper.py, runs/prepare/numbers.json]
    params:
      - params/PAPER.yaml: [lr]
    outs: ["runs/PAPER/train/${item.seed}.json"]
  prune:
    wdir: ../../..
    matrix:
      arm: ${arms}
      seed: ${seeds}
    cmd: python code/prune.py paper=PAPER arm=${item.arm} seed=${item.seed}
    deps: [code/prune.py, code/helper.py, "runs/PAPER/train/${item.seed}.json"]
    params:
      - params/PAPER.yaml: [ratio]
    outs: ["runs/PAPER/metrics/${item.arm}/${item.seed}.json"]
  gather:
    wdir: ../../..
    cmd: python code/gather.py paper=PAPER
    deps: [code/gather.py, code/helper.py, runs/PAPER/metrics]
    params:
      - params/config.yaml: [seeds, arms]
    metrics:
      - runs/results/PAPER.json:
          cache: true
"""

REPORT = """
stages:
  report:
    cmd: python code/report.py
    deps: [code/report.py, code/helper.py, runs/results]
    params:
      - params/report.yaml: [digits]
    plots:
      - reports/table.md:
          cache: false
"""


def write_toy(folder: Path, seeds: tuple[int, ...] = (0, 1), arms: tuple[str, ...] = ("l1", "dcp")) -> Path:
    """Write the toy pipeline with the real engine into `folder`; returns it, committed to git."""
    return Path(shutil.copytree(_template(seeds, arms), folder, symlinks=True))


@cache
def _template(seeds: tuple[int, ...], arms: tuple[str, ...]) -> Path:
    """A toy to copy: git, DVC and the compiling of the engine cost seconds each time. Kept until this process ends."""
    kept = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, kept, ignore_errors=True)
    folder = Path(kept, "toy")
    for name in ("Snakefile", "profiles", "workflow", ".dvcignore"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, ignore=ignore) if source.is_dir() else shutil.copy(source, target)
    for path, text in _files(seeds, arms).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    sh(folder, "git init -q -b main && dvc init -q && dvc config core.analytics false")
    sh(folder, "dvc add -q data && git add -A && git -c user.name=t -c user.email=t@t commit -qm toy")
    compileall.compile_dir(folder / "workflow", quiet=1)
    return folder


def _files(seeds: tuple[int, ...], arms: tuple[str, ...]) -> dict[str, str]:
    files = {f"code/{step}.py": STEP for step in ("prepare", "train", "prune", "gather", "report")}
    files |= {f"params/{paper}.yaml": "lr: 2\nratio: 3\n" for paper in ("chex", "dcp")}
    files |= {f"stages/papers/{paper}/dvc.yaml": PAPER.replace("PAPER", paper) for paper in ("chex", "dcp")}
    files |= {
        "code/helper.py": HELPER,
        "params/config.yaml": f"seeds: {list(seeds)}\narms: [{', '.join(arms)}]\n",
        "params/report.yaml": "digits: 2\n",
        "data/sample/numbers.txt": "n: 4\n",
        "stages/prepare/dvc.yaml": PREPARE,
        "dvc.yaml": REPORT,
        ".gitignore": "/runs/\n/data\n.snakemake/\n__pycache__/\n/trace\n/wait\n",
    }
    return files


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """Environment in which `snakemake`, `dvc` and `python` are this interpreter's, and scripts leave a trace."""
    binaries = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": binaries + os.pathsep + os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "TRACE": str(folder / "trace"),
        "DVC_NO_ANALYTICS": "1",
        "SHELL": "/bin/sh",
        "REPRISE_PRELOAD": "",  # these scripts import nothing that is worth preloading
        **extra,
    }


def sh(folder: Path, command: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in the toy repository."""
    done = subprocess.run(
        command, cwd=folder, shell=True, text=True, capture_output=True, env=environment(folder, **extra), check=False,
        timeout=1800,  # a command that waits for ever fails its test instead of stopping the suite
    )  # fmt: skip
    if check and done.returncode:
        raise AssertionError(f"{command}\n{done.stdout}\n{done.stderr}")
    return done


def executed(folder: Path) -> list[str]:
    """Scripts run since the last call, sorted."""
    trace = folder / "trace"
    lines = sorted(trace.read_text().splitlines()) if trace.exists() else []
    trace.unlink(missing_ok=True)
    return lines


def clean(folder: Path) -> bool:
    """Whether `dvc status` has nothing to say (asked without its command, whose start costs more than the answer)."""
    with Repo(str(folder)) as repo:
        return repo.status() == {}
