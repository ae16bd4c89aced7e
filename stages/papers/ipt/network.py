"""The image processing transformer: a head, a tail and a query for each task around one body, and its one-task part."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.restoration.blocks import MeanShift, ResBlock, Upsampler, conv
from stages.lib.restoration.degrade import upscale
from stages.papers.ipt.body import Body
from stages.papers.ipt.initialisation import initialise
from stages.papers.ipt.tasks import task

if TYPE_CHECKING:
    from stages.papers.ipt.settings import Net


def head(net: "Net") -> nn.Sequential:
    """[B, 3, H, W] to [B, C, H, W]: a convolution and residual blocks without normalisation."""
    blocks = [ResBlock(net.features, net.head_kernel) for _ in range(net.head_blocks)]
    return nn.Sequential(conv(3, net.features), *blocks)


def tail(net: "Net", scale: int) -> nn.Sequential:
    """[B, C, H, W] to [B, 3, H scale, W scale]; a convolution alone for scale 1.

    Where the input is added to what it gives, that starts at zero: the fresh net leaves images as they are.
    """
    last = conv(net.features, 3)
    if net.input_skip:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(Upsampler(net.features, scale), last)


class MultiTask(nn.Module):
    """What the transformer and its peers share: heads, tails, colours, and the skip from head to tail.

    Modules are named by task, so that their order means nothing. Inputs and outputs are in 0..255, not clipped.
    """

    called = ("with_tokens",)  # by the loss, in place of forward

    def __init__(self, tasks: Sequence[str], net: "Net") -> None:
        super().__init__()
        self.tasks, self.side, self.unit, self.input_skip = tuple(tasks), net.image, net.unit, net.input_skip
        self.subtract, self.add = MeanShift(-1), MeanShift(1)
        self.heads = nn.ModuleDict({name: head(net) for name in tasks})
        self.tails = nn.ModuleDict({name: tail(net, task(name).scale) for name in tasks})

    def through(self, h: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """(what is added to the head's features h, tokens for the contrastive loss)."""
        raise NotImplementedError

    def forward(self, x: Tensor, name: str | None = None) -> Tensor:
        """[B, 3, image, image] to [B, 3, image scale, image scale]; a net of one task needs no name."""
        return self.with_tokens(x, name)[0]

    def with_tokens(self, x: Tensor, name: str | None = None) -> tuple[Tensor, Tensor]:
        """The same, with the tokens [B, N, d] that the contrastive loss takes."""
        name = self.chosen(name)
        h = self.heads[name](self.subtract(x) / self.unit)
        found, tokens = self.through(h, name)
        out = self.tails[name](h + found) * self.unit
        return (out + upscale(x, task(name).scale) if self.input_skip else self.add(out)), tokens

    def chosen(self, name: str | None) -> str:
        """The task's name. StageError for a task without a head, and for none where there are several."""
        if name is None and len(self.tasks) == 1:
            return self.tasks[0]
        if name not in self.tasks:
            raise StageError(f"task {name}: the net has heads for {', '.join(self.tasks)}; choose one of them")
        return name


class IPT(MultiTask):
    """Head, body with the task's query, skip from the head, tail."""

    def __init__(self, tasks: Sequence[str], net: "Net") -> None:
        super().__init__(tasks, net)
        self.body = Body(net)
        # A whole map a task, and a parameter of its own each: an update of one task leaves the others' moments alone.
        queries = {name: nn.Parameter(torch.randn(net.tokens, net.width)) for name in tasks} if net.mlp else {}
        self.queries = nn.ParameterDict(queries)
        initialise(self, net)

    def through(self, h: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """The body's features and tokens. StageError for another size than the body's."""
        if h.shape[-2:] != (self.side, self.side):
            raise StageError(f"an image of {h.shape[-1]} x {h.shape[-2]} pixels; the body takes tiles of {self.side}")
        return self.body(h, self.queries[name] if self.queries else None)


def reduced(tensors: dict[str, Tensor], name: str, start: str, tail: str | None = None) -> dict[str, Tensor]:
    """The tensors of a net of one task `name` out of those of several: the body, head and query of task `start`, and its
    tail or that of task `tail`. StageError if there is no such task.
    """
    owners = {"heads": start, "queries": start, "tails": tail or start}
    kept, found = {}, set()
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        if part not in owners:
            kept[key] = value
            continue
        owner, dot, below = rest.partition(".")
        if owner == owners[part]:
            found.add(part)
            kept[f"{part}.{name}{dot}{below}"] = value
    if not {"heads", "tails"} <= found:
        raise StageError(f"tasks {start}, {tail or start}: the net has no head or tail for them; correct finetune.targets")
    return kept
