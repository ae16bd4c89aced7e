"""Nets on disk: weights with a record of shape, form and offsets, from which the net is rebuilt."""

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from stages.lib import artifacts
from stages.lib.errors import StageError, one_line
from stages.papers.ghostsr.conversion import converted, exported, narrowed, sliced_layers
from stages.papers.ghostsr.ghost import GhostOptions
from stages.papers.ghostsr.nets import build
from stages.papers.ghostsr.settings import Backbone


@dataclasses.dataclass(frozen=True)
class Form:
    """What a net is, apart from its weights: the shape it started from, and what was made of that."""

    shape: Backbone
    name: str = "dense"
    options: GhostOptions = dataclasses.field(default_factory=GhostOptions)

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"kind": "ghostsr", "form": self.name, "shape": dataclasses.asdict(self.shape),
                "options": dataclasses.asdict(self.options)}  # fmt: skip

    def exported(self) -> "Form":
        """The form of the exported net: sliced for a ghost net, otherwise the same."""
        return dataclasses.replace(self, name="sliced") if self.name == "ghost" else self

    def build(self) -> nn.Module:
        """A net of this form with random weights."""
        net = build(self.shape)
        if self.name == "hidden":
            return narrowed(net, self.options.ratio)
        if self.name == "dense":
            return net
        net = converted(net, self.options, "kmeans", "none", 0)
        return exported(net) if self.name == "sliced" else net


def save(path: Path, net: nn.Module, form: Form) -> None:
    """Write a net's state; for an exported net (form sliced) its offsets too."""
    record = form.record()
    if form.name == "sliced":
        record["offsets"] = {name: module.offsets for name, module in sliced_layers(net).items()}
    artifacts.save_tensors(path, net.state_dict(), record)


def load(path: Path) -> tuple[nn.Module, Form]:
    """(the net in eval mode on the CPU, its form). Raises StageError for a damaged or foreign file."""
    tensors, record = artifacts.load_tensors(path)
    try:
        form = Form(Backbone(**record["shape"]), record["form"], GhostOptions(**record["options"]))
        net = form.build()
        if form.name == "sliced":
            for name, module in sliced_layers(net).items():
                module.offsets = [tuple(pair) for pair in record["offsets"][name]]
        net.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StageError(f"{path}: weights and record disagree ({one_line(error)[:200]}); run its stage again") from error
    return net.eval(), form
