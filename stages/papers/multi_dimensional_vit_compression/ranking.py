"""Which heads and neurons of a block are dispensable (section 3.1): HSIC with the net's prediction, or simpler orders."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.lib import hsic
from stages.lib.runtime import derive_seed
from stages.lib.vit.net import VisionTransformer
from stages.lib.vit.parts import Block
from stages.papers.multi_dimensional_vit_compression.space import Policy

if TYPE_CHECKING:
    from stages.papers.multi_dimensional_vit_compression.settings import Ranking

MEMORY = 1 << 25  # entries of kernel matrices computed together


@dataclass(frozen=True)
class Order:
    """Heads and neurons of each block by falling importance."""

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]

    def kept(self, found: Policy) -> "Kept":
        """The first ones, as many as a policy keeps, in ascending order."""
        heads = tuple(tuple(sorted(order[:count])) for order, count in zip(self.heads, found.heads, strict=True))
        neurons = tuple(tuple(sorted(order[:count])) for order, count in zip(self.neurons, found.neurons, strict=True))
        return Kept(heads, neurons)


@dataclass(frozen=True)
class Kept:
    """Indices of the heads and neurons of each block that stay."""

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Outputs:
    """What the components of one block gave for n images, with nothing removed."""

    heads: Tensor  # [heads, n, N]: outputs before the projection, mean over a head's columns
    neurons: Tensor  # [neurons, n, N]: activations after GELU
    values: Tensor  # [N, n, D]: value vectors of every token


@torch.no_grad()
def outputs(net: VisionTransformer, x: Tensor) -> tuple[list[Outputs], Tensor]:
    """(outputs of every block, predictions [n, classes]) for images [n, C, H, W], gates open and all tokens there."""
    net.eval()
    h, found = net.stem(x), []
    for block in net.blocks:
        normed = block.norm1(h)
        heads, _ = block.attention.attend(normed)
        h = h + block.attention.project(heads)
        active = F.gelu(block.mlp.fc1(block.norm2(h)))
        values = F.linear(normed, *_value_map(block))
        found.append(Outputs(heads.mean(3).transpose(0, 1), active.permute(2, 0, 1), values.transpose(0, 1)))
        h = h + block.mlp.fc2(active)
    return found, net.head(h).softmax(1)


def _value_map(block: Block) -> tuple[Tensor, Tensor]:
    """Weight and bias of the value projection."""
    return tuple(part.chunk(3)[2] for part in (block.attention.qkv.weight, block.attention.qkv.bias))


def kernels(x: Tensor, settings: "Ranking") -> Tensor:
    """[..., n, n] mean of Gaussian kernels of features [..., n, f]."""
    if settings.standardise:
        return hsic.gaussian_kernel(hsic.standardised(x), settings.widths)
    deviation = x.std(-2, correction=0, keepdim=True) + hsic.EPSILON
    return hsic.gaussian_kernel(x - x.mean(-2, keepdim=True) / deviation, settings.widths)


def relevance(x: Tensor, predicted: Tensor, settings: "Ranking") -> Tensor:
    """[J] HSIC of components [J, n, f] with predictions [n, classes], in pieces that fit into memory."""
    size = max(1, MEMORY // (len(predicted) ** 2 * (1 + len(settings.widths))))
    return torch.cat([hsic.hsic_linear(kernels(part, settings), predicted) for part in x.split(size)])


def neuron_scores(found: Tensor, active: Tensor, share: float) -> Tensor:
    """share * minmax(HSIC) + (1 - share) * minmax(sum |activation|) of neurons [M, n, N] with relevances [M]."""
    return share * minmax(found) + (1.0 - share) * minmax(active.abs().sum((1, 2)))


def head_scores(heads: Tensor, predicted: Tensor, settings: "Ranking") -> Tensor:
    """HSIC with the prediction, less mu times the mean HSIC with the other heads; of heads [h, n, N]."""
    if len(heads) == 1:
        return relevance(heads, predicted, settings)
    found = kernels(heads, settings)
    pairs = hsic.hsic(found.unsqueeze(0), found.unsqueeze(1))
    others = (pairs.sum(1) - pairs.diagonal()) / (len(heads) - 1)
    return hsic.hsic_linear(found, predicted) - settings.mu_redundancy * others


def minmax(scores: Tensor) -> Tensor:
    """Scores shifted and scaled to [0, 1]; zeros where all are equal."""
    low, high = scores.min(), scores.max()
    return torch.zeros_like(scores) if bool(high == low) else (scores - low) / (high - low)


def magnitudes(block: Block) -> tuple[Tensor, Tensor]:
    """(heads, neurons): L1 norm of all weights that surgery would remove with each."""
    attention, mlp = block.attention, block.mlp
    by_head = attention.qkv.weight.view(3, attention.heads, -1).abs().sum((0, 2))
    by_head = by_head + attention.proj.weight.view(len(attention.proj.weight), attention.heads, -1).abs().sum((0, 2))
    return by_head, mlp.fc1.weight.abs().sum(1) + mlp.fc2.weight.abs().sum(0)


@torch.no_grad()
def orders(net: VisionTransformer, x: Tensor, settings: "Ranking", repetition: int) -> dict[str, Order]:
    """The order of a net's heads and neurons by every criterion, on images [n, C, H, W].

    dependency: as in the official code; hsic: the same with HSIC alone for neurons; l1: norm of the weights.
    """
    found, predicted = outputs(net, x)
    heads = [head_scores(one.heads, predicted, settings) for one in found]
    relevances = [relevance(one.neurons, predicted, settings) for one in found]

    def by_share(share: float) -> list[tuple[Tensor, Tensor]]:
        return [(h, neuron_scores(r, one.neurons, share)) for h, r, one in zip(heads, relevances, found, strict=True)]

    generator = torch.Generator().manual_seed(derive_seed(repetition, "ranking"))
    scores = {
        "dependency": by_share(settings.lambda_hsic),
        "hsic": by_share(1.0),
        "l1": [magnitudes(block) for block in net.blocks],
        "random": [
            (torch.rand(len(o.heads), generator=generator), torch.rand(len(o.neurons), generator=generator)) for o in found
        ],
    }
    return {name: Order(*(tuple(falling(pair[i]) for pair in pairs) for i in (0, 1))) for name, pairs in scores.items()}


def falling(scores: Tensor) -> tuple[int, ...]:
    """Indices by falling score, the first of equals first."""
    return tuple(scores.sort(descending=True, stable=True).indices.tolist())


@torch.no_grad()
def places(net: VisionTransformer, x: Tensor, y: Tensor, reduce: tuple[int, ...], settings: "Ranking") -> Tensor:
    """[reducing blocks, N] HSIC of each place's value vector with the label, relative to the largest.

    A running mean over batches of `settings.batch` images with `settings.momentum`, as in the official code's variant.
    """
    labels = F.one_hot(y).float()
    mean = None
    for part, told in zip(x.split(settings.batch), labels.split(settings.batch), strict=True):
        if len(part) < settings.batch and mean is not None:
            break  # HSIC of a smaller batch is another measure
        found, _ = outputs(net, part)
        rows = torch.stack([relevance(found[block - 1].values, told, settings) for block in reduce])
        rows = rows / rows.amax(1, keepdim=True).clamp_min(hsic.EPSILON)
        mean = rows if mean is None else settings.momentum * mean + (1.0 - settings.momentum) * rows
    return mean
