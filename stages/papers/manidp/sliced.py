"""Execution that computes active channels only: equal to the masked net, at the cost that `cost` counts.

For inference. Normalisations are folded into the convolutions once; at each layer the active filters are gathered,
rows of contiguous memory: of the first convolution W1[k1], of the second W2[k2][:, k1].
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.papers.manidp.gated import GatedNet
from stages.papers.manidp.gates import LARGEST, Gate

LANES = 8  # channels that a convolution kernel treats at once (AVX2, float32)
WIDE = 64  # channels from which on single operations no longer count
FEW = 1100  # pixels of the maps of which that is not true


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(weight, bias) of the convolution followed by its normalisation in eval mode; float64 inside."""
    with torch.no_grad():
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight, bias = (
            conv.weight.double() * scale[:, None, None, None],
            norm.bias.double() - norm.running_mean.double() * scale,
        )
    return weight.to(conv.weight.dtype).contiguous(), bias.to(conv.weight.dtype)


class Sliced(nn.Module):
    """A gated net in eval mode, executed with sliced weights; its weights are copies, later training does not reach them.

    A single image takes its own slices. Images of a batch are grouped, block by block, by equal masks. Slices are gathered
    anew only where a mask has changed since the last call.
    """

    def __init__(self, net: GatedNet) -> None:
        super().__init__()
        object.__setattr__(self, "head", net.net.head)  # a view: moves and saves nothing of the net
        pairs = zip(net.gates[0::2], net.gates[1::2], strict=True)
        self.rows = [SlicedBlock(block, *gates) for block, gates in zip(net.net.blocks, pairs, strict=True)]
        stem = net.net.stem
        self.first = (*folded(stem[0], stem[1]), stem[0].stride, stem[0].padding)
        self.pool = stem[3] if len(stem) > 3 else None

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of the images x [N, C, H, W]."""
        weight, bias, stride, padding = self.first
        h = F.relu_(F.conv2d(x, weight, bias, stride, padding))
        h = h if self.pool is None else self.pool(h)
        for row in self.rows:
            h = row(h)
        return self.head(h)


class SlicedBlock:
    """A basic block with the active channels only."""

    def __init__(self, block: nn.Module, first: Gate, second: Gate) -> None:
        self.stride = block.conv1.stride
        self.first, self.second = SlicedGate(first), SlicedGate(second)
        self.weight1, self.bias1 = folded(block.conv1, block.bn1)
        self.weight2, self.bias2 = folded(block.conv2, block.bn2)
        self.shortcut = _shortcut(block.downsample)
        self.cut1 = self.cut2 = None  # (active channels, weight, bias) of the last call

    def __call__(self, x: Tensor) -> Tensor:
        """Features of the block's output [N, out, H', W'] from [N, in, H, W]; may overwrite x."""
        return by_mask(self.first.mask(x), self._outer, x)

    def _outer(self, mask: Tensor, x: Tensor) -> Tensor:
        """The block for images whose first masks [n, mid] are active at the same channels."""
        active = channels(mask, x)
        if not len(active):
            h = x.new_zeros(len(x), 0, 1, 1)
        else:
            if self.cut1 is None or not torch.equal(self.cut1[0], active):
                self.cut1 = (active, self.weight1.index_select(0, active), self.bias1.index_select(0, active))
                self.cut2 = None
            h = F.relu_(F.conv2d(x, *self.cut1[1:], self.stride, 1))
            h.mul_(mask.index_select(1, active)[:, :, None, None])
        return by_mask(self.second.mask(h, active), lambda m, x, h: self._inner(m, x, h, active), x, h)

    def _inner(self, mask: Tensor, x: Tensor, h: Tensor, active: Tensor) -> Tensor:
        """The rest of it for images whose second masks are active at the same channels."""
        shortcut = x if self.shortcut is None else F.conv2d(x, *self.shortcut)
        chosen = channels(mask, h)
        if not len(chosen):
            return F.relu_(shortcut)
        scale = mask.index_select(1, chosen)[:, :, None, None]
        if not len(active):  # nothing entered: the convolution's output is its bias everywhere
            h = (self.bias2[chosen][None, :, None, None] * scale).expand(-1, -1, *shortcut.shape[2:]).contiguous()
            return F.relu_(shortcut.index_add_(1, chosen, h))
        if self.cut2 is None or not torch.equal(self.cut2[0], chosen):
            weight = self.weight2.index_select(0, chosen).index_select(1, active)
            self.cut2 = (chosen, weight, self.bias2.index_select(0, chosen))
        h = F.conv2d(h, *self.cut2[1:], 1, 1).mul_(scale)
        return F.relu_(shortcut.index_add_(1, chosen, h))


class SlicedGate:
    """A gate on the features of the active channels of its input; few operations, since at 32 px each of them counts."""

    def __init__(self, gate: Gate) -> None:
        self.frozen = (gate.mean * (gate.mean >= gate.threshold))[None] if gate.frozen else None
        # transposed: the weights of an input channel are a contiguous row
        self.first = gate.squeeze.weight.detach().t().contiguous()
        self.second, self.bias = gate.excite.weight.detach().t().contiguous(), gate.excite.bias.detach()
        # p >= threshold is p > the float below it, and ReLU is the same cut at 0: one operation does both
        below = torch.nextafter(gate.threshold, torch.full_like(gate.threshold, -torch.inf))
        self.cut = max(float(below), 0.0)

    def mask(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """Mask [N, outputs] from features [N, k, H, W] of all input channels, or of the `active` ones (others are zero)."""
        if self.frozen is not None:
            return self.frozen.expand(len(x), -1)
        first = self.first if active is None else self.first.index_select(0, active)
        saliency = torch.addmm(self.bias, (means(x) @ first).relu_(), self.second).clamp_(max=LARGEST)
        return F.threshold_(saliency, self.cut, 0.0)


def means(x: Tensor) -> Tensor:
    """Mean over the map [N, C] of features [N, C, H, W]: a product with a vector where that is quicker than a reduction."""
    positions = x.shape[2] * x.shape[3]
    if len(x) > 1 or positions > FEW:
        return x.mean((2, 3))
    return (x.view(x.shape[1], positions) @ x.new_full((positions,), 1 / positions)).view(1, -1)


def channels(mask: Tensor, x: Tensor) -> Tensor:
    """Indices of the active channels of masks [n, c] that are active alike.

    Where maps are large the number is filled up to a multiple of 8 by channels whose mask is 0: the convolution's kernels
    work on 8 channels at a time and are up to half as slow at other numbers.
    """
    active = mask[0].nonzero().view(-1)
    count = len(active)
    if count % LANES == 0 or mask.shape[1] < WIDE or x.shape[2] * x.shape[3] < FEW:
        return active
    return mask[0].topk(min(-(-count // LANES) * LANES, mask.shape[1])).indices.sort().values


def by_mask(masks: Tensor, execute: Callable[..., Tensor], *features: Tensor) -> Tensor:
    """execute(masks, *features) for each group of images that are active at the same channels, put back in order."""
    if len(masks) == 1:
        return execute(masks, *features)
    kinds, group = torch.unique(masks > 0, dim=0, return_inverse=True)
    out = None
    for kind in range(len(kinds)):
        members = (group == kind).nonzero().view(-1)
        part = execute(masks[members], *(h[members] for h in features))
        out = part.new_empty(len(masks), *part.shape[1:]) if out is None else out
        out[members] = part
    return out


def _shortcut(downsample: nn.Sequential | None) -> tuple | None:
    """(weight, bias, stride) of a projection, its normalisation folded in where it has one; None for an identity."""
    if downsample is None:
        return None
    conv = downsample[0]
    weight, bias = folded(conv, downsample[1]) if len(downsample) > 1 else (conv.weight.detach(), None)
    return weight, bias, conv.stride
