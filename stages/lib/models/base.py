"""What every net offers: a stem, a row of blocks, a head, its prunable sites, and a record from which it is rebuilt."""

import copy
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.models.geometry import Layer
from stages.lib.models.sites import Site


class Net(nn.Module):
    """A classifier `head(blocks(stem(x)))`.

    Subclasses set `kind`, `stem` and `blocks`, and describe themselves by a JSON-able record.
    """

    kind: ClassVar[str]
    stem: nn.Module
    blocks: nn.ModuleList

    def __init__(self, record: dict) -> None:
        super().__init__()
        self._record = copy.deepcopy(record)

    def record(self) -> dict:
        """The architecture as plain JSON values (kind, input shape, classes, width of every layer).

        `build(net.record())` has the same shape.
        """
        return copy.deepcopy(self._record)

    def segment(self, h: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Features after `blocks[start:stop]` from the features `h` [N,C,H,W] that enter block `start`."""
        for block in list(self.blocks)[start:stop]:
            h = block(h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N,classes] of images [N,C,H,W]."""
        return self.head(self.segment(self.stem(x), 0))

    @abstractmethod
    def head(self, h: Tensor) -> Tensor:
        """Logits [N,classes] from the features [N,C,H,W] of the last block."""

    @abstractmethod
    def sites(self) -> list[Site]:
        """The prunable places in forward order."""

    @classmethod
    @abstractmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes a net of this kind."""

    @classmethod
    @abstractmethod
    def layers(cls, record: dict) -> list[Layer]:
        """Every parametric layer with its geometry, from the record alone (no net is built)."""

    @classmethod
    @abstractmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record after giving the sites named in `widths` that many channels."""


_kinds: dict[str, type[Net]] = {}


def register(cls: type[Net]) -> type[Net]:
    """Class decorator: `build` knows the class by its `kind` from now on.

    A paper registers its own kinds in its own folder.
    """
    if _kinds.setdefault(cls.kind, cls).__qualname__ != cls.__qualname__:
        raise ValueError(f"two classes of nets call themselves {cls.kind!r}")
    return cls


def family(record: Any) -> type[Net]:
    """The class that builds `record`, after checking the record; StageError names what is wrong with it."""
    kind = record.get("kind") if isinstance(record, dict) else None
    if not isinstance(kind, str) or kind not in _kinds:
        raise StageError(
            f"architecture record, kind: expected one of {', '.join(sorted(_kinds))}, got {str(kind)[:60]!r}; "
            "rebuild the file that holds it"
        )
    _kinds[kind].check(record)
    return _kinds[kind]


def build(record: dict) -> Net:
    """A freshly initialised net from its record (global torch generator).

    StageError for a record that does not describe a net.
    """
    return family(record)(record)


def rebuild(record: dict, state: dict[str, Tensor]) -> Net:
    """The net of `record` with the tensors of `state` themselves as weights (not copies); draws no random number."""
    # A net on the meta device would draw nothing, but the first one imports sympy and torch's reference operators: 1.2 s.
    with torch.random.fork_rng(devices=[]):
        net = build(record)
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise StageError(
            f"weights do not fit their architecture record ({' '.join(str(error).split())[:200]}); make the file again"
        ) from error
    return net


def initialise(net: nn.Module) -> None:
    """Convolutions normal(0, sqrt(2 / (k k outputs))) as in dcp and torchvision's fan-out rule.

    All biases 0, normalisations 1 and 0.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, (2.0 / fan_out) ** 0.5)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
