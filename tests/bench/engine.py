"""Engine: a DAG of small training stages, under `snakemake --cores 2`, `dvc repro` and plain shell rules."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.table import Row
from tests.workflow.toy import ROOT, environment, sh

PAPERS = 10

TRAIN = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
paper, seed = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(int(seed))
net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 10))
optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
x, y = torch.randn(64, 3, 16, 16), torch.randint(10, (64,))
for _ in range(20):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(net(x), y).backward()
    optimiser.step()
out = Path(f"runs/{paper}/{seed}.safetensors")
out.parent.mkdir(parents=True, exist_ok=True)
save_file(net.state_dict(), out)
"""

STAGES = """
vars:
  - ../../../params/seeds.yaml
stages:
  train:
    wdir: ../../..
    matrix:
      seed: ${seeds}
    cmd: python code/train.py PAPER ${item.seed}
    deps: [code/train.py]
    outs: ["runs/PAPER/${item.seed}.safetensors"]
"""

GATHER = """
stages:
  gather:
    cmd: python code/gather.py
    deps: [code/gather.py, FOLDERS]
    outs: [runs/all.txt]
"""

PLAIN = """
rule all:
    input: expand("runs/p{paper}/{seed}.safetensors", paper=range(PAPERS), seed=range(SEEDS))
rule train:
    output: "runs/p{paper}/{seed}.safetensors"
    shell: "python code/train.py p{wildcards.paper} {wildcards.seed}"
"""


@dataclass
class Timing:
    """Wall and processor seconds of a command and all its children."""

    wall: float
    cpu: float


PRELOAD = "numpy,torch,torch._dynamo,safetensors.torch"  # the small stage steps a torch.optim optimiser


def timed(folder: Path, command: str) -> Timing:
    """Run a command in the folder and time it.

    Raises:
        AssertionError: it failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        shell=True,
        env=environment(folder, REPRISE_PRELOAD=PRELOAD),
        capture_output=True,
        text=True,
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    assert done.returncode == 0, done.stdout + done.stderr
    return Timing(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def repository(folder: Path, stages: int) -> Path:
    """A repository of `stages` training stages declared in ten dvc.yaml files, and one that gathers them."""
    folder.mkdir(parents=True)
    for name in ("Snakefile", "profiles", "workflow", ".dvcignore"):
        source = ROOT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
    papers = [f"p{number}" for number in range(PAPERS)]
    files = {f"stages/papers/{p}/dvc.yaml": STAGES.replace("PAPER", p) for p in papers}
    files |= {
        "code/train.py": TRAIN,
        "code/gather.py": "open('runs/all.txt', 'w').write('done')\n",
        "params/seeds.yaml": f"seeds: {list(range(stages // PAPERS))}\n",
        "dvc.yaml": GATHER.replace("FOLDERS", ", ".join(f"runs/{p}" for p in papers)),
        ".gitignore": "/runs\n.snakemake\n__pycache__\n",
        "plain/Snakefile": PLAIN.replace("PAPERS", str(PAPERS)).replace("SEEDS", str(stages // PAPERS)),
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    sh(folder, "git init -q && dvc init -q && dvc config core.analytics false")
    return folder


def measure(stages: int, reference: int) -> list[Row]:
    """Rows for a DAG of `stages` stages; `dvc repro` and plain rules run on `reference` stages and are scaled up."""
    with tempfile.TemporaryDirectory() as scratch:
        ours = repository(Path(scratch, "ours"), stages)
        run = timed(ours, "snakemake --cores 2")
        idle = timed(ours, "snakemake --cores 2")
        engine = engine_cost(Path(scratch, "trivial"), stages)
        twin = repository(Path(scratch, "dvc"), reference)
        repro = timed(twin, "dvc repro")
        shutil.rmtree(twin / "runs")
        plain = timed(
            twin, f"cp -r code plain && snakemake -s plain/Snakefile -d {twin}/plain --cores 2 --workflow-profile none"
        )
        shutil.rmtree(ours / "runs")
        restored = timed(ours, "snakemake --cores 2")
    factor = stages / reference
    note = "" if factor == 1 else f" ({reference} stages, scaled to {stages})"
    dvc_wall, plain_wall = repro.wall * factor, plain.wall * factor
    return [
        Row(
            f"{stages} training stages: snakemake --cores 2 against dvc repro, wall s",
            f"{run.wall:.0f}",
            f"{dvc_wall:.0f}{note}",
            run.wall / dvc_wall,
            "<= 0.35",
        ),
        Row(
            f"{stages} training stages: snakemake --cores 2 against plain shell rules, wall s",
            f"{run.wall:.0f}",
            f"{plain_wall:.0f}{note}",
            run.wall / plain_wall,
            "< 1",
        ),
        Row(
            f"engine at {stages} stages: CPU s a stage beyond the command's, against the trial's 1.15",
            f"{engine:.2f}",
            "1.15",
            engine / 1.15,
            "<= 0.43 (0.5 s)",
        ),
        Row(f"nothing to do at {stages} stages, CPU s against 5", f"{idle.cpu:.1f}", "5", idle.cpu / 5, "<= 1"),
        Row(
            f"outputs deleted at {stages} stages: restore against compute, wall s",
            f"{restored.wall:.0f}",
            f"{run.wall:.0f}",
            restored.wall / run.wall,
            "< 0.5",
        ),
    ]


def engine_cost(folder: Path, stages: int) -> float:
    """CPU seconds a stage of a run whose commands do nothing but write a file."""
    trivial = repository(folder, stages)
    script = "import sys\nfrom pathlib import Path\nout = Path(f'runs/{sys.argv[1]}/{sys.argv[2]}.safetensors')\n"
    script += "out.parent.mkdir(parents=True, exist_ok=True)\nout.write_text(' '.join(sys.argv))\n"
    (trivial / "code/train.py").write_text(script)
    return timed(trivial, "snakemake --cores 2").cpu / (stages + 1)


def rows() -> list[Row]:
    """The engine's rows; REPRISE_BENCH_STAGES and REPRISE_BENCH_REFERENCE change the sizes."""
    stages = int(os.environ.get("REPRISE_BENCH_STAGES", "400"))
    return measure(stages, int(os.environ.get("REPRISE_BENCH_REFERENCE", str(stages))))
