"""The toy pipeline as a cluster sees it: stages of several lengths, and trainings that ask for a GPU and resume."""

from __future__ import annotations

from pathlib import Path

from tests.workflow.toy import STEP, write_toy

# A minute at most stays on the login node, ten at most are packed, and the rest becomes arrays.
META = {
    "train": "{threads: 1, mem_mb: 300, runtime: 30, gpu: 1}",
    "prune": "{threads: 1, mem_mb: 200, runtime: 5}",
    "gather": "{runtime: 1}",
    "report": "{runtime: 1}",
}

# Fails where another job has the same device, if it was given one; on SIGTERM, saves how far it came, as real stages do.
TRAIN = r"""
import os, signal, sys, time
from pathlib import Path
here = "-".join(word.split("=")[1] for word in sys.argv[1:])
state = Path("runs/.scratch", here)
state.parent.mkdir(parents=True, exist_ok=True)
given = os.environ.get("CUDA_VISIBLE_DEVICES")
device = Path("runs/.held", given or "none")
device.mkdir(parents=True, exist_ok=not given)
done = int(state.read_text()) if state.exists() else 0

def release():
    if given:
        device.rmdir()

def stop(*_):
    state.write_text(str(done))
    release()
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
with open("started", "a") as handle:
    handle.write(f"{here} at {done} on {device.name}\n")
steps = int(Path("steps").read_text()) if Path("steps").exists() else 4
while done < steps:
    time.sleep(0.1)
    done += 1
release()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
"""


def simulated(folder: Path) -> dict[str, str]:
    """An environment with two devices that no other run has."""
    name = str(folder).strip("/").replace("/", "-")
    return {"CUDA_VISIBLE_DEVICES": f"{name}-0,{name}-1"}


def write_cluster_toy(folder: Path, **sizes: tuple) -> Path:
    """The toy pipeline (seeds and arms as in `write_toy`) with `meta:` and a training that takes a device."""
    write_toy(folder, **sizes)
    (folder / "code/train.py").write_text(TRAIN + STEP)
    for file in (folder / "dvc.yaml", *folder.glob("stages/papers/*/dvc.yaml")):
        text = file.read_text()
        for step, meta in META.items():
            command = f"    cmd: python code/{step}.py"
            text = text.replace(command, f"    meta: {meta}\n{command}")
        file.write_text(text)
    return folder
