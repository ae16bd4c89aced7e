"""States on disk: a client's, the server's, and that of an unfinished federation."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.papers.fedpu.local import Member, State

PAUSE = 5.0  # seconds between two saves of an unfinished federation, more where saving is slow


@dataclasses.dataclass
class Progress:
    """A federation after some rounds: global state, what clients keep, accuracy and bytes of each round."""

    state: State
    members: dict[int, Member] = dataclasses.field(default_factory=dict)
    accuracies: list[float] = dataclasses.field(default_factory=list)
    exchanged: list[int] = dataclasses.field(default_factory=list)


def pack_member(member: Member, prefix: str = "") -> State:
    """A client's momentum as tensors."""
    return {f"{prefix}velocity.{i:03}": value for i, value in enumerate(member.velocity)}


def unpack_member(tensors: State, taken: int, prefix: str = "") -> Member:
    """The inverse of pack_member."""
    own = [value for name, value in sorted(tensors.items()) if name.startswith(f"{prefix}velocity.")]
    return Member(own, taken)


def with_prefix(state: State, prefix: str) -> State:
    """Every tensor under a longer name, on the CPU."""
    return {prefix + name: value.cpu() for name, value in state.items()}


def without_prefix(tensors: State, prefix: str) -> State:
    """The tensors of that prefix, by their own names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class Keeper:
    """Saves a federation between rounds; its file is taken up only by the same federation on the same data and code."""

    def __init__(self, path: Path, started: str) -> None:
        self.path, self.started, self.last, self.cost = path, started, time.monotonic(), 0.0

    def save(self, progress: Progress, now: bool = False) -> None:
        """Save, unless (and not `now`) the last save was a moment ago."""
        from safetensors.torch import save

        began = time.monotonic()
        if not now and began - self.last < max(PAUSE, 50 * self.cost):
            return
        tensors = with_prefix(progress.state, "global.")
        for number, member in progress.members.items():
            tensors |= with_prefix(pack_member(member, f"client.{number}."), "")
        record = {"started": self.started, "taken": {str(k): member.taken for k, member in progress.members.items()},
                  "accuracies": progress.accuracies, "exchanged": progress.exchanged}  # fmt: skip
        whole = {name: value.contiguous() for name, value in tensors.items()}
        # Not flushed to disk: a killed process loses nothing, and a power cut leaves a file that is refused.
        artifacts.write_bytes(self.path, save(whole, metadata={"architecture": json.dumps(record)}), durable=False)
        self.last = time.monotonic()
        self.cost = self.last - began

    def restore(self, device: torch.device) -> Progress | None:
        """The saved progress, if there is one of this very federation."""
        if not self.path.is_file():
            return None
        try:
            tensors, record = artifacts.load_tensors(self.path)
        except StageError as error:
            print(f"ignored a saved state: {error}", flush=True)
            return None
        if record.get("started") != self.started:
            print(f"ignored {self.path}: it belongs to other settings, data or code", flush=True)
            return None
        moved = {name: value.to(device) for name, value in tensors.items()}
        members = {int(k): unpack_member(moved, taken, f"client.{k}.") for k, taken in record["taken"].items()}
        return Progress(without_prefix(moved, "global."), members, record["accuracies"], record["exchanged"])


def write_client(folder: Path, state: State | None, member: Member, about: dict[str, Any]) -> list[Path]:
    """A client's file of one round: the state that it returns (none if it took no part) and what it keeps."""
    tensors = with_prefix(pack_member(member), "") | (with_prefix(state, "returned.") if state else {})
    record = {"net": about, "taken": member.taken, "part": state is not None}
    artifacts.save_tensors(folder / "client.safetensors", tensors, record)
    return [folder / "client.safetensors"]


def read_client(folder: Path, about: dict[str, Any], device: torch.device) -> tuple[State | None, Member]:
    """What write_client wrote. Raises StageError if it is damaged or of another net."""
    tensors, record = _read(folder, "client.safetensors", about, device)
    state = without_prefix(tensors, "returned.") if record["part"] else None
    return state, unpack_member(tensors, record["taken"])


def write_global(folder: Path, state: State, about: dict[str, Any]) -> list[Path]:
    """The server's state after a round."""
    artifacts.save_tensors(folder / "global.safetensors", with_prefix(state, ""), {"net": about})
    return [folder / "global.safetensors"]


def read_global(folder: Path, about: dict[str, Any], device: torch.device) -> State:
    """What write_global wrote. Raises StageError if it is damaged or of another net."""
    return _read(folder, "global.safetensors", about, device)[0]


def _read(folder: Path, name: str, about: dict[str, Any], device: torch.device) -> tuple[State, dict[str, Any]]:
    artifacts.verify_manifest(folder / "manifest.json")
    tensors, record = artifacts.load_tensors(folder / name)
    if record.get("net") != about:
        raise StageError(f"{folder / name}: holds another net than the params file describes; run its stage again")
    return {key: value.to(device) for key, value in tensors.items()}, record
