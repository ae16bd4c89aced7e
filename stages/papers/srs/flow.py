"""Invertible residual nets (Behrmann et al. 2019) in two dimensions, K side by side, with the exact log-determinant.

A block scales and shifts its input (ActNorm), y = e^s (x + t), and adds g(y) = W2 f(W1 y + b1) + b2. It is invertible where g
contracts: Lip(g) <= |W1| |W2| L with L = max |f'|. L is not 1 for every activation: SRS(5, 3) reaches 1.137. Both matrices are
therefore limited to sqrt(contraction / L), with L at the present alpha and beta. The scales matter: small inputs meet only the
nearly linear middle of a smooth activation.
"""

import math

import torch
from torch import Tensor, nn

from stages.papers.srs.peers import SideBySide


def spectral_norms(weight: Tensor) -> Tensor:
    """Largest singular values [K] of [K, n, 2] or [K, 2, n], in closed form from the 2 x 2 Gram matrix."""
    gram = weight @ weight.transpose(1, 2) if weight.shape[1] == 2 else weight.transpose(1, 2) @ weight
    a, b, d = gram[:, 0, 0], gram[:, 0, 1], gram[:, 1, 1]
    return ((a + d) / 2 + ((a - d).square() / 4 + b.square()).clamp(min=1e-24).sqrt()).sqrt()


def limited(weight: Tensor, most: Tensor) -> Tensor:
    """The matrices scaled down where their norm exceeds `most` [K]."""
    return weight * (most / spectral_norms(weight)).clamp(max=1.0).view(-1, 1, 1)


class Block(nn.Module):
    """One residual block of K nets."""

    def __init__(self, first: Tensor, second: Tensor, bias: Tensor, act: SideBySide) -> None:
        """first [K, 2, hidden], second [K, hidden, 2], bias [K, 1, hidden]: x W1 + b1 is used, with rows as points."""
        super().__init__()
        self.first, self.second, self.act = nn.Parameter(first), nn.Parameter(second), act
        self.first_bias = nn.Parameter(bias)
        self.second_bias = nn.Parameter(first.new_zeros(len(first), 1, 2))
        self.log_scale = nn.Parameter(first.new_zeros(len(first), 1, 2))
        self.shift = nn.Parameter(first.new_zeros(len(first), 1, 2))

    def matrices(self, contraction: float) -> tuple[Tensor, Tensor]:
        """W1 and W2 so limited that g contracts by `contraction`."""
        most = (contraction / self.act.lipschitz()).sqrt()
        return limited(self.first, most), limited(self.second, most)

    def residual(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """g(x) for x [K, B, 2], which is already scaled."""
        return torch.baddbmm(self.second_bias, self.act(torch.baddbmm(self.first_bias, x, first)), second)

    def forward(self, x: Tensor, contraction: float) -> tuple[Tensor, Tensor]:
        """(y + g(y), log |det| [K, B] of the whole)."""
        first, second = self.matrices(contraction)
        x = (x + self.shift) * self.log_scale.exp()
        value, steep = self.act.with_slope(torch.baddbmm(self.first_bias, x, first))
        # dg_i/dx_j = sum_h second[h, i] f'(h) first[j, h], for all points by one product.
        outer = (second.unsqueeze(3) * first.transpose(1, 2).unsqueeze(2)).flatten(2)
        jacobian = steep @ outer
        determinant = (1 + jacobian[..., 0]) * (1 + jacobian[..., 3]) - jacobian[..., 1] * jacobian[..., 2]
        return x + torch.baddbmm(self.second_bias, value, second), determinant.log() + self.log_scale.sum(2)


class Flow(nn.Module):
    """Blocks from points, spread out by `gain`, to a standard normal; a last scale undoes the gain at the start."""

    coupled = True  # the rows of what it takes are nets, not points: nothing to share out to processes

    def __init__(self, blocks: list[Block], contraction: float, gain: float) -> None:
        super().__init__()
        self.blocks, self.contraction, self.gain = nn.ModuleList(blocks), contraction, gain
        self.log_scale = nn.Parameter(blocks[0].shift.new_full(blocks[0].shift.shape, -math.log(gain)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(z [K, B, 2], log |det dz/dx| [K, B])."""
        x, total = x * self.gain, (2 * math.log(self.gain) + self.log_scale.sum(2)).expand(x.shape[:2])
        for block in self.blocks:
            x, change = block(x, self.contraction)
            total = total + change
        return x * self.log_scale.exp(), total

    def bits(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in bits a dimension, [K, B]."""
        z, change = self(x)
        nats = z.square().sum(2) / 2 + math.log(2 * math.pi) - change
        return nats / (2 * math.log(2))

    @torch.no_grad()
    def inverse(self, z: Tensor, iterations: int) -> Tensor:
        """x [K, B, 2] of z by Banach's iteration y <- z - g(y), block by block."""
        z = z * (-self.log_scale).exp()
        for block in reversed(self.blocks):
            first, second = block.matrices(self.contraction)
            x = z
            for _ in range(iterations):
                x = z - block.residual(x, first, second)
            z = x * (-block.log_scale).exp() - block.shift
        return z / self.gain
