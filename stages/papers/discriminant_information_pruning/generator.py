"""Linear-Gaussian channels of known worth: informative ones, copies of them, and louder noise."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib.checks import at_least
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed

if TYPE_CHECKING:
    from stages.papers.discriminant_information_pruning.channels import ChannelParams


@dataclass
class Generated:
    """Features (N, C, P) and labels (N,) of two draws, and for each channel (C,) the informative one it carries, or -1."""

    features: Tensor
    labels: Tensor
    test_features: Tensor
    test_labels: Tensor
    carries: Tensor


def generate(params: "ChannelParams", seed: int) -> Generated:
    """One problem. Channel = class mean (sd `shift`) plus unit noise; copies add 1e-3 noise; the rest is noise alone.

    StageError for counts that make no problem.
    """
    _check(params)
    generator = torch.Generator().manual_seed(derive_seed(seed, "generator"))
    means = params.shift * torch.randn(
        params.classes, params.informative, params.pixels, generator=generator, dtype=torch.float64
    )
    carries = torch.tensor([*range(params.informative), *range(params.copies), *[-1] * params.noise])
    place = torch.randperm(len(carries), generator=generator)
    draws = []
    for count in (params.examples, params.test_examples):
        labels = torch.arange(count) % params.classes
        draws += [_draw(params, means[labels], generator)[:, place], labels]
    return Generated(*draws, carries[place])


def _draw(params: "ChannelParams", signal: Tensor, generator: torch.Generator) -> Tensor:
    """Channels in the order informative, copies, noise."""

    def gaussian(channels: int) -> Tensor:
        return torch.randn(len(signal), channels, params.pixels, generator=generator, dtype=torch.float64)

    informative = signal + gaussian(params.informative)
    copies = informative[:, : params.copies] + params.copy_noise * gaussian(params.copies)
    return torch.cat((informative, copies, params.loudness * gaussian(params.noise)), 1)


def _check(params: "ChannelParams") -> None:
    for key, least in (("informative", 1), ("copies", 0), ("noise", 1), ("pixels", 1), ("classes", 2)):
        at_least(key, getattr(params, key), least)
    if params.copies > params.informative:
        raise StageError(f"params.copies={params.copies}: expected at most one for each of {params.informative} channels")
    for key in ("examples", "test_examples"):
        if getattr(params, key) < params.classes:
            raise StageError(f"params.{key}={getattr(params, key)}: expected one for each of {params.classes} classes or more")
