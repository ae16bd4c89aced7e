"""The parts of a vision transformer (Dosovitskiy et al. 2021), as DeiT and timm build them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError

EPS = 1e-6  # of the norms, as in DeiT; torch's own is 1e-5
DEVIATION = 0.02  # of truncated normal weights


class Stem(nn.Module):
    """Patches to tokens, the class token in front, absolute positions added.

    Learned positions are parameters; fixed ones (`sincos`) a buffer, which does not count as trained.
    """

    def __init__(self, channels: int, patch: int, patches: int, width: int, positions: Tensor | None = None) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        if positions is None:
            self.positions = nn.Parameter(torch.zeros(1, patches + 1, width))
        else:
            self.register_buffer("positions", positions)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, n + 1, e] of images [B, C, H, W]."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.positions


class Attention(nn.Module):
    """Multi-head self-attention; q, k and v have heads * head_dim columns each, of which a pruned net has fewer than e."""

    def __init__(self, width: int, heads: int, head_dim: int | None = None) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim or width // heads
        self.qkv = nn.Linear(width, 3 * heads * self.head_dim)
        self.proj = nn.Linear(heads * self.head_dim, width)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Heads' outputs [B, heads, N, head_dim] before the projection, and their weights [B, heads, N, N].

        Products are written out: torch's fused kernel is no faster at this size and hides its MACs from the counter.
        """
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        weights = torch.softmax((q * self.head_dim**-0.5) @ k.transpose(2, 3), dim=-1)
        return weights @ v, weights

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, e] to tokens."""
        return self.project(self.attend(x)[0])

    def project(self, heads: Tensor) -> Tensor:
        """Tokens [B, N, e] from the heads' outputs [B, heads, N, head_dim]."""
        return self.proj(heads.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """W2 GELU(W1 x), token by token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, e] to tokens."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """x + DropPath(attention(LN x)), then x + DropPath(MLP(LN x))."""

    def __init__(self, width: int, hidden: int, heads: int, drop_path: float = 0.0, head_dim: int | None = None) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, EPS), Attention(width, heads, head_dim)
        self.norm2, self.mlp = nn.LayerNorm(width, EPS), Mlp(width, hidden)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, e] to tokens."""
        x = x + dropped(self.attention(self.norm1(x)), self.drop_path, self.training)
        return x + dropped(self.mlp(self.norm2(x)), self.drop_path, self.training)


def dropped(branch: Tensor, rate: float, training: bool) -> Tensor:
    """Stochastic depth: each sample's branch [B, ...] is dropped with the rate, those kept are scaled up."""
    if not rate or not training:
        return branch
    # Drawn on the CPU: the process's generator is part of a resumable state, and all devices get the same draws.
    kept = (torch.rand(len(branch), *[1] * (branch.dim() - 1)) >= rate).to(branch)
    return branch * kept / (1.0 - rate)


def drop_rates(rate: float, depth: int) -> list[float]:
    """Rates of stochastic depth rising linearly from 0 to `rate` over the blocks."""
    return [rate * i / max(1, depth - 1) for i in range(depth)]


def initialise(net: nn.Module, deviation: float | None = DEVIATION) -> None:
    """Linear maps truncated normal, or Xavier uniform where `deviation` is None; biases 0; token and learned positions normal.

    The patch map keeps torch's values beside truncated normal weights (timm), and is Xavier uniform beside Xavier ones
    (MAE). Norms keep 1 and 0.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear):
            _weights(module.weight, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Stem):
            if deviation is None:
                nn.init.xavier_uniform_(module.patches.weight.view(len(module.patches.weight), -1))
            for parameter in module.parameters(recurse=False):
                nn.init.trunc_normal_(parameter, std=deviation or DEVIATION)


def _weights(weight: Tensor, deviation: float | None) -> None:
    if deviation is None:
        nn.init.xavier_uniform_(weight)
    else:
        nn.init.trunc_normal_(weight, std=deviation)


def sincos(side: int, width: int) -> Tensor:
    """Fixed positions [1, side * side + 1, width], a row of zeros for the class token first (He et al. 2022, MAE).

    Half of the columns stand for the horizontal, half for the vertical place, each [sin, cos] of
    place * 10000^(-i / (width / 4)). Raises StageError for a width that is no multiple of 4.
    """
    if width % 4:
        raise StageError(f"embed={width}: expected a multiple of 4 for sincos positions")
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    place = torch.arange(side * side)
    angles = [(axis.double()[:, None] * frequencies) for axis in (place % side, place // side)]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], 1).float()
    return torch.cat([torch.zeros(1, width), table])[None]
