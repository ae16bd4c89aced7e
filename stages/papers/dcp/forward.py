"""Running part of a net while one of its layers is under selection: what is cached, frozen and listened to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.lib.models import Site
from stages.papers.dcp.heads import Supervised
from stages.papers.dcp.problem import Run


@dataclass(frozen=True)
class Cached:
    """What selection in one layer starts from: the block's input, and the producer's output where it is in the block."""

    inputs: Tensor
    produced: Tensor | None

    def __getitem__(self, part: slice) -> "Cached":
        """The images of a batch."""
        return Cached(self.inputs[part], None if self.produced is None else self.produced[part])


class Replay(nn.Module):
    """Stands in for a producer and gives back its cached output: about a fifth of a selection's time."""

    output: Tensor

    def forward(self, _: Tensor) -> Tensor:
        """The output of the present batch, whatever the input."""
        return self.output


@torch.no_grad()
def cache(net: nn.Module, site: Site, features: Tensor) -> Cached:
    """Features of a site's block, with the producer's output (None if an earlier block holds the producer)."""
    with captured(net.get_submodule(site.producer)) as outputs:
        net.segment(features, site.block, site.block + 1)
    return Cached(features, outputs[0] if outputs else None)


@contextmanager
def replayed(net: nn.Module, site: Site, cached: Cached) -> Iterator[Replay | None]:
    """Puts a Replay in the producer's place while the context lasts, where there is something to replay."""
    if cached.produced is None:
        yield None
        return
    parent, _, name = site.producer.rpartition(".")
    producer, replay = net.get_submodule(site.producer), Replay()
    setattr(net.get_submodule(parent), name, replay)
    try:
        yield replay
    finally:
        setattr(net.get_submodule(parent), name, producer)


def run_to_pivot(pruned: Supervised, site: Site, p: int, classify: bool, replay: Replay | None = None) -> Run:
    """The map from cached features to (layer's output O, logits at pivot p); without `classify` it ends at the block."""
    layer, end = pruned.net.get_submodule(site.consumer), pruned.ends[p]

    def run(part: Cached) -> tuple[Tensor, Tensor | None]:
        if replay is not None:
            replay.output = part.produced
        with captured(layer) as outputs:
            features = pruned.net.segment(part.inputs, site.block, end if classify else site.block + 1)
        return outputs[0], pruned.classify(features, p) if classify else None

    return run


@contextmanager
def captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the outputs of `layer` while the context lasts."""
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def only_trainable(model: nn.Module, layer: nn.Module) -> Iterator[None]:
    """Eval mode (BN statistics stay) and gradients for one layer alone; what was set before comes back at the end."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    training = model.training
    model.eval().requires_grad_(False)
    layer.requires_grad_(True)
    try:
        yield
    finally:
        for param, flag in before:
            param.requires_grad_(flag)
        model.train(training)
