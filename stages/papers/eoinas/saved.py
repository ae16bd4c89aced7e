"""A search on disk: to go on from, or to examine. The operations left on every edge are part of it, since names shift."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from stages.lib import artifacts, parallel, resume
from stages.lib.data import Split
from stages.lib.errors import StageError, one_line
from stages.papers.eoinas.searching import Search
from stages.papers.eoinas.supernet import Kept, Space, Supernet

EVERY = 20.0  # seconds of searching between two saves


def tensors_of(search: Search) -> dict[str, Tensor]:
    """Everything that changes in a search and is a tensor."""
    found = {f"net.{name}": value for name, value in search.net.state_dict().items()}
    found |= {f"velocity.{index}": value for index, value in enumerate(search.optimiser.velocity)}
    for index, (name, alpha) in enumerate(search.alphas.items()):
        statistics = search.statistics[name]
        found |= {f"alpha.{name}": alpha.detach(), f"adam.first.{name}": search.adam.first[index]}
        found |= {f"adam.second.{name}": search.adam.second[index]}
        found |= {f"{key}.{name}": getattr(statistics, key) for key in ("count", "accuracy", "seen")}
    return found | {"generator.noise": search.noise.get_state(), "generator.order": search.order.get_state()}


def record_of(search: Search) -> dict:
    """The rest of it, as JSON can hold it."""
    keys = ("epoch", "spent", "losses", "events", "strengths")
    return {"kept": search.net.kept, "adam": search.adam.steps, **{key: getattr(search, key) for key in keys}}


def save(path: Path, search: Search, started: str = "") -> None:
    """Write the whole state; `started` tells what the search began from."""
    artifacts.save_tensors(path, tensors_of(search), {**record_of(search), "started": started})


def put_back(search: Search, tensors: dict[str, Tensor], record: dict) -> None:
    """Bring a fresh search of the same settings to a saved state."""
    search.net = load_net(search.net.space, record["kept"], tensors).to(search.device)
    for name, statistics in search.statistics.items():
        search.alphas[name] = tensors[f"alpha.{name}"].to(search.device).requires_grad_()
        for key in ("count", "accuracy", "seen"):
            setattr(statistics, key, tensors[f"{key}.{name}"])
    search.renew()
    for index, velocity in enumerate(search.optimiser.velocity):
        velocity.copy_(tensors[f"velocity.{index}"])
    for index, name in enumerate(search.alphas):
        search.adam.first[index].copy_(tensors[f"adam.first.{name}"])
        search.adam.second[index].copy_(tensors[f"adam.second.{name}"])
    search.adam.steps = record["adam"]
    search.noise.set_state(tensors["generator.noise"])
    search.order.set_state(tensors["generator.order"])
    for key in ("epoch", "spent", "losses", "events", "strengths"):
        setattr(search, key, record[key])


def load_net(space: Space, kept: Kept, tensors: dict[str, Tensor]) -> Supernet:
    """The supernet of saved tensors, with the operations that it had left. StageError if they do not fit."""
    net = Supernet(space, kept)
    try:
        net.load_state_dict({name.removeprefix("net."): value for name, value in tensors.items() if name.startswith("net.")})
    except RuntimeError as error:
        raise StageError(f"a saved search does not fit its settings ({one_line(error)[:150]}); run the search again") from error
    return net


class Keeper:
    """Saves an unfinished search now and then, and takes it up again if it is this very one."""

    def __init__(self, path: Path, search: Search, split: Split, *about: object) -> None:
        self.path, self.last = path, time.monotonic()
        alphas = [alpha.tolist() for alpha in search.alphas.values()]
        settings = (repr((search.params, search.searcher, search.net.space, about, str(search.device))), alphas)
        self.started = resume.fingerprint(search.net, split, settings)

    def restore(self, search: Search) -> None:
        """Go on from the saved state if there is one; say so."""
        if not self.path.is_file():
            return
        try:
            tensors, record = artifacts.load_tensors(self.path)
        except StageError as error:
            print(f"ignored a saved search: {error}", flush=True)
            return
        if record.get("started") != self.started:
            print(f"ignored {self.path}: it belongs to other settings, data or code", flush=True)
            return
        put_back(search, tensors, record)
        print(f"resumed after epoch {search.epoch}", flush=True)

    def save(self, search: Search) -> None:
        """Save if the last time is long enough ago by the first process's clock: a file is written by all or by none."""
        due = torch.tensor(float(time.monotonic() - self.last >= EVERY), device=search.device)
        parallel.alike([due])
        if bool(due):
            save(self.path, search, self.started)
            self.last = time.monotonic()

    def remove(self) -> None:
        """Delete the state of a finished search."""
        self.path.unlink(missing_ok=True)


def mean_field(alphas: dict[str, Tensor]) -> dict[str, Tensor]:
    """softmax(alpha) by cell type: the mixing weights of a supernet that is evaluated."""
    return {name: torch.softmax(alpha, -1) for name, alpha in alphas.items()}
