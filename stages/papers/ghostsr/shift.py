"""The learnable shift: one offset for the ghost channels of a layer, chosen by logits with a straight-through gradient."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib.errors import StageError
from stages.lib.gumbel import gumbel_noise, gumbel_softmax, straight_through

ESTIMATORS = ("official", "gumbel_softmax", "frozen")
LOGITS = ("official", "centre")
CENTRE_START = 0.3  # factor of the other logits where the centre starts at 1


def noise_amplitude(epoch: float, decay: float) -> float:
    """decay ** (epoch - 1): the official code anneals the noise and not a temperature; epochs count from 1."""
    return decay ** (epoch - 1)


def one_hot(scores: Tensor) -> Tensor:
    """1 at the largest of all entries, 0 elsewhere, same shape; the first of equal entries wins."""
    return functional.one_hot(scores.flatten().argmax(), scores.numel()).to(scores.dtype).view_as(scores)


def shifted(x: Tensor, row: int, column: int) -> Tensor:
    """g[h, w] = x[h + row, w + column] with zeros outside, x [B, C, H, W] (section 3.2 of the specification: no multiply)."""
    height, width = x.shape[-2:]
    reach = max(abs(row), abs(column))
    padded = functional.pad(x, (reach,) * 4)
    return padded[..., reach + row : reach + row + height, reach + column : reach + column + width]


class LearnableShift(nn.Module):
    """Shifts all channels by the offset whose logit wins, among the (2 radius + 1)^2 that include the centre.

    In training a depth-wise convolution with a one-hot kernel, so that its gradient reaches the logits. estimator: official
    (arg max of |logit + noise|, identity as gradient), gumbel_softmax (arg max of logit + noise, gradient of the softmax),
    frozen (the offset that the logits start with). logits: official (uniform), centre (plain copies to start with, and with
    frozen for ever). `groups` > 1 gives as many groups of channels an offset of their own.
    """

    def __init__(self, radius: int, estimator: str, logits: str = "official", groups: int = 1) -> None:
        super().__init__()
        if estimator not in ESTIMATORS:
            raise StageError(f"estimator={estimator}: expected one of {', '.join(ESTIMATORS)}")
        if logits not in LOGITS:
            raise StageError(f"logits={logits}: expected one of {', '.join(LOGITS)}")
        self.radius, self.estimator, self.groups = radius, estimator, groups
        self.amplitude = 1.0  # of the noise
        self.temperature = 1.0  # of gumbel_softmax
        self.logits = nn.Parameter(torch.empty(groups, 1, self.side, self.side), requires_grad=estimator != "frozen")
        bound = 1 / self.side  # HeUniform with slope sqrt(5) and a fan-in of side^2, as the official code starts
        nn.init.uniform_(self.logits, -bound, bound)
        if logits == "centre":
            with torch.no_grad():
                self.logits.mul_(CENTRE_START)[:, :, radius, radius] = 1.0

    @property
    def side(self) -> int:
        """Rows and columns of the kernel."""
        return 2 * self.radius + 1

    def scores(self) -> Tensor:
        """What the arg max of inference is taken of."""
        return self.logits if self.estimator == "gumbel_softmax" else self.logits.abs()

    def kernel(self) -> Tensor:
        """[groups, 1, side, side], each with a single 1; in training drawn, with a gradient to the logits."""
        if not self.training or self.estimator == "frozen":
            return torch.stack([one_hot(one) for one in self.scores().detach()])
        if self.estimator == "gumbel_softmax":
            soft = gumbel_softmax(self.logits.flatten(1), self.temperature, torch.default_generator)
            return straight_through(soft).view_as(self.logits)
        noise = gumbel_noise(tuple(self.logits.shape), torch.default_generator).to(self.logits)
        drawn = torch.stack([one_hot(one) for one in (self.logits.detach() + self.amplitude * noise).abs()])
        return drawn + (self.logits - self.logits.detach())

    def offsets(self) -> list[tuple[int, int]]:
        """(rows, columns) by which inference looks away from the centre, one pair a group."""
        if self.logits.is_meta:  # only sizes are asked for
            return [(0, 0)] * self.groups
        found = self.scores().detach().flatten(1).argmax(1).tolist()
        return [(place // self.side - self.radius, place % self.side - self.radius) for place in found]

    def forward(self, x: Tensor) -> Tensor:
        """Shifted maps [B, C, H, W]; the channels are dealt to the groups in turn."""
        if self.estimator == "frozen" and self.groups == 1:
            return shifted(x, *self.offsets()[0])
        channels = x.shape[1]
        kernel = self.kernel().repeat(-(-channels // self.groups), 1, 1, 1)[:channels]
        return functional.conv2d(x, kernel, padding=self.radius, groups=channels)


def shifts(net: nn.Module) -> list[LearnableShift]:
    """All learnable shifts of a net, in the order of its modules."""
    return [module for module in net.modules() if isinstance(module, LearnableShift)]


def set_epoch(net: nn.Module, epoch: float, decay: float) -> None:
    """Give every shift of a net the noise amplitude, or for gumbel_softmax the temperature, of an epoch counted from 1."""
    for module in shifts(net):
        amount = noise_amplitude(epoch, decay)
        if module.estimator == "gumbel_softmax":
            module.temperature = max(amount, 1e-2)
        else:
            module.amplitude = amount
