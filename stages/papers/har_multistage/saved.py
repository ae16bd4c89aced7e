"""Trained branches on disk, and the places of all outputs."""

import dataclasses
from pathlib import Path
from typing import Any

from stages.lib import artifacts, files
from stages.lib.errors import StageError
from stages.papers.har_multistage.individual import Branch, fresh_branch
from stages.papers.har_multistage.learning import Trained
from stages.papers.har_multistage.settings import Params

RUNS = files.RUNS / "har_multistage"


def folder(what: str, scale: str, dataset: str, seed: int) -> Path:
    """Where a stage leaves its files: what is single, scratch or merged."""
    return RUNS / what / scale / dataset / str(seed)


def metrics(scale: str, dataset: str, seed: int) -> Path:
    """The file of all arms' figures."""
    return RUNS / "metrics" / scale / dataset / f"{seed}.json"


def prepared(dataset: str) -> list[Path]:
    """The files of a prepared data set."""
    return [Path("runs/prepare") / dataset / name for name in ("windows.npz", "manifest.json")]


def branch_path(place: Path, protocol: str, name: str, repetition: int, repeats: int) -> Path:
    """The file of a branch."""
    return files.weights(place, f"{protocol}-{name}", repetition, repeats)


def record(branch: Branch, params: Params, classes: int) -> dict[str, Any]:
    """What a branch is, as plain JSON values."""
    net = {name: list(value) if isinstance(value, list) else value for name, value in dataclasses.asdict(params.net).items()}
    return {"kind": "har_multistage branch", "name": branch.name, "shape": list(branch.extractor.shape), "net": net,
            "classes": classes, **dataclasses.asdict(branch.trained)}  # fmt: skip


def save(path: Path, branch: Branch, params: Params, classes: int) -> Path:
    """Write a branch; returns the path."""
    artifacts.save_tensors(path, branch.net.state_dict(), record(branch, params, classes))
    return path


def load(path: Path, name: str, shape: tuple[int, ...], params: Params, classes: int) -> Branch:
    """A branch in eval mode. Raises StageError where the file belongs to other settings or windows."""
    tensors, found = artifacts.load_tensors(path)
    told = {item.name: found.get(item.name) for item in dataclasses.fields(Trained)}
    branch = Branch(name, fresh_branch(name, shape, params, classes, 0), Trained(**told))
    if found != record(branch, params, classes):
        raise StageError(f"{path}: holds another extractor than the params file describes; run the stage train again")
    branch.net.load_state_dict(tensors)
    branch.net.eval()
    return branch
