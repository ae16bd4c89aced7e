"""The gate of a layer: channel saliencies predicted from the layer's input (the official code's MaskBlock)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OPEN = -10000.0  # threshold before the first update: every channel stays
LARGEST = 1000.0  # saliencies are cut off here; practically never reached
NARROW = 80  # layers narrower than this squeeze half as much


@dataclass(frozen=True)
class Gating:
    """What a gate says of a batch: mask m = p 1[p >= threshold] and saliency p, both [N, channels]."""

    mask: Tensor
    saliency: Tensor


def hidden_width(outputs: int, squeeze: int) -> int:
    """Width of a gate's hidden layer: c_out // q, where q is `squeeze`, or half of it for narrow layers."""
    return outputs // max(1, squeeze // 2 if outputs < NARROW else squeeze)


class Gate(nn.Module):
    """p = relu(W2 relu(W1 gap(x)) + b2), kept where p reaches the threshold.

    The comparison is detached: a dropped channel gets no gradient of the task, but does get that of the sparsity and
    similarity terms, which use p itself. In train mode the saliencies are summed up for the threshold. Once `frozen`,
    the mask is the mean saliency cut at the threshold, the same for every image (static pruning).
    """

    def __init__(self, inputs: int, outputs: int, squeeze: int) -> None:
        super().__init__()
        hidden = hidden_width(outputs, squeeze)
        self.squeeze = nn.Linear(inputs, hidden, bias=False)
        self.excite = nn.Linear(hidden, outputs)
        self.register_buffer("threshold", torch.tensor(OPEN))
        self.register_buffer("total", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.ones(outputs))
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))
        self.reset(1.0)

    def reset(self, scale: float) -> None:
        """Kaiming normal weights, W2 times `scale` (1 in the official code), b2 = 1: open, near 1 for a small scale."""
        nn.init.kaiming_normal_(self.squeeze.weight)
        nn.init.kaiming_normal_(self.excite.weight)
        with torch.no_grad():
            self.excite.weight.mul_(scale)
        nn.init.ones_(self.excite.bias)

    def forward(self, x: Tensor) -> Gating:
        """Gating of the features x [N, inputs, H, W] that enter the layer."""
        saliency = F.relu(self.excite(F.relu(self.squeeze(x.mean((2, 3)))))).clamp(max=LARGEST)
        if self.training:
            self.total += saliency.detach().sum(0, dtype=torch.float64)
            self.seen += len(x)
        saliency = torch.where(self.frozen, self.mean, saliency)  # not a branch: a GPU would have to wait for it
        return Gating(saliency * (saliency.detach() >= self.threshold), saliency)

    def average(self) -> Tensor:
        """mu [outputs]: mean saliency since `forget`. What was seen counts, not the size of the set (drop_last)."""
        return (self.total / self.seen.clamp(min=1)).to(self.mean.dtype)

    def forget(self) -> None:
        """Start a new average, as at the start of every pass."""
        self.total.zero_()
        self.seen.zero_()
