"""The scratch file of an unfinished training: what it holds, when it is written, when it may be used.

Safetensors with one JSON record, like the models, so that a scratch folder needs no trust either.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import nn

from stages.lib import artifacts, parallel
from stages.lib.errors import StageError

if TYPE_CHECKING:
    from stages.lib.data import Split
    from stages.lib.training import Run

SAMPLED = 512  # images hashed to tell one data set from another; all labels are hashed


def fingerprint(model: nn.Module, split: Split, settings: tuple[Any, ...]) -> str:
    """SHA-256 over settings, thread count, start weights, data and the source of every loaded stage module."""
    digest = hashlib.sha256(json.dumps([settings, torch.get_num_threads(), torch.__version__]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    stride = max(1, len(split) // SAMPLED)
    told = hasattr(split.x, "fingerprint")  # images in shards
    for tensor in (split.y,) if told else (split.y, split.x[::stride]):
        digest.update(repr(tuple(tensor.shape)).encode() + tensor.cpu().contiguous().numpy().tobytes())
    digest.update(split.x.fingerprint().encode() if told else b"")
    digest.update(_code())
    return digest.hexdigest()


def _code() -> bytes:
    """Hash of the loaded stage modules and the script, so that edited code never goes on from old weights."""
    digest = hashlib.sha256()
    names = [name for name in sys.modules if name.partition(".")[0] == "stages" or name == "__main__"]
    for name in sorted(names):
        source = getattr(sys.modules[name], "__file__", None)
        if source and Path(source).is_file():
            digest.update(Path(source).read_bytes())
    return digest.digest()


class Keeper:
    """Writes and reads one run's state. `share` bounds the share of time that saving may take."""

    def __init__(self, path: Path, started: str, share: float) -> None:
        self.path, self.started, self.share = path, started, share
        self.last, self.cost = time.monotonic(), 0.0

    def save(self, run: Run, now: bool = False) -> None:
        """Save, unless (and not `now`) the last save was too recent for what saving costs."""
        if parallel.rank():  # the state is the same in every process
            return
        began = time.monotonic()
        if not now and self.cost > self.share * (began - self.last):
            return
        tensors, record = snapshot(run)
        # Not flushed to disk: a killed process loses nothing, and a power cut leaves a file that is refused.
        artifacts.write_bytes(self.path, _pack(tensors, {**record, "started": self.started}), durable=False)
        self.last = time.monotonic()
        self.cost = self.last - began

    def restore(self, run: Run) -> bool:
        """Take up a saved state if there is one of this very run; say so if there is another's."""
        if not self.path.is_file():
            return False
        try:
            tensors, record = artifacts.load_tensors(self.path)
        except StageError as error:
            print(f"ignored a saved state: {error}", flush=True)
            return False
        if record.get("started") != self.started:
            print(f"ignored {self.path}: it belongs to other settings, data or code", flush=True)
            return False
        recover(run, tensors, record)
        return True

    def remove(self) -> None:
        """Delete the state once the training is complete."""
        self.path.unlink(missing_ok=True)


def _pack(tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> bytes:
    from safetensors.torch import save

    return save(tensors, metadata={"architecture": json.dumps(record)})


def snapshot(run: Run) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, JSON-able record) of a run and of every generator of the process."""
    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    tensors |= {f"velocity.{index}": value for index, value in enumerate(run.optimiser.velocity)}
    tensors |= {"order": run.order, "generator": run.generator.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        tensors |= {f"cuda.{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())}
    kind, keys, *rest = numpy.random.get_state()
    tensors["numpy"] = torch.from_numpy(keys.astype(numpy.int64))
    record = {
        "step": run.step,
        "total": run.total,
        "history": run.history,
        "numpy": [kind, *rest],
        "python": random.getstate(),
    }
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, record


def recover(run: Run, tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> None:
    """Put a snapshot back into a run and into every generator."""
    own = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    run.model.load_state_dict(own)
    for index, velocity in enumerate(run.optimiser.velocity):
        velocity.copy_(tensors[f"velocity.{index}"])
    run.order, run.step, run.total, run.history = tensors["order"], record["step"], record["total"], record["history"]
    run.generator.set_state(tensors["generator"])
    torch.set_rng_state(tensors["torch"])
    if "cuda.0" in tensors:
        torch.cuda.set_rng_state_all([value for name, value in sorted(tensors.items()) if name.startswith("cuda.")])
    kind, *rest = record["numpy"]
    numpy.random.set_state((kind, tensors["numpy"].numpy().astype(numpy.uint32), *rest))
    version, state, gauss = record["python"]
    random.setstate((version, tuple(state), gauss))
